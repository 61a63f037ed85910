// How the planner is: a coloured dot, a word, why, and a warning if there is one.
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
  QString warning() const {return warning_->text();}

private:
  QLabel * dot_;
  QLabel * word_;
  QLabel * detail_;
  QLabel * warning_;
};

}  // namespace dexwm_rviz
