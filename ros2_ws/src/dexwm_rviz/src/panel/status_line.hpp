// One line on how the planner is: a coloured dot, a word, and why.
#pragma once

#include <QLabel>
#include <QWidget>

#include "panel/planner_client.hpp"

namespace dexwm_rviz
{

class StatusLine : public QWidget
{
  Q_OBJECT

public:
  explicit StatusLine(QWidget * parent = nullptr);

  void show(const PlannerStatus & status);
  QString text() const {return word_->text();}
  QString detail() const {return detail_->text();}

private:
  QLabel * dot_;
  QLabel * word_;
  QLabel * detail_;
};

}  // namespace dexwm_rviz
