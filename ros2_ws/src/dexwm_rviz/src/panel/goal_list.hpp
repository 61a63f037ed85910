// The goal library as a strip of thumbnails, newest first.
#pragma once

#include <QListWidget>
#include <QVector>

#include "panel/planner_client.hpp"

namespace dexwm_rviz
{

class GoalList : public QListWidget
{
  Q_OBJECT

public:
  explicit GoalList(QWidget * parent = nullptr);

  // Shows these goals; the chosen one stays chosen if it is among them.
  void setGoals(const QVector<GoalEntry> & goals);
  // Chooses a goal by name, now or as soon as it is listed.
  void choose(const QString & name);
  // Name of the chosen goal; empty: none.
  QString chosen() const;
  // The chosen goal as the model sees it; null: none.
  QImage chosenPicture() const;

  QSize sizeHint() const override;
  QSize minimumSizeHint() const override;

Q_SIGNALS:
  void chosenChanged();

private:
  QVector<GoalEntry> goals_;
  QString wanted_;
};

}  // namespace dexwm_rviz
