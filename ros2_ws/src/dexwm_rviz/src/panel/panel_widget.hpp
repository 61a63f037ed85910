// The panel: choose a goal, look at it, plan, execute, stop, resume, recover.
#pragma once

#include <QComboBox>
#include <QFrame>
#include <QImage>
#include <QLabel>
#include <QPushButton>
#include <QSlider>
#include <QWidget>

#include "panel/cost_plot.hpp"
#include "panel/goal_list.hpp"
#include "panel/planner_client.hpp"
#include "panel/preview.hpp"
#include "panel/status_line.hpp"

namespace dexwm_rviz
{

// A name that the goal library takes, made of a file's: letters, digits, "_", "-" and ".".
QString goalNameOf(const QString & path);

class PanelWidget : public QWidget
{
  Q_OBJECT

public:
  // The client must live as long as the panel.
  explicit PanelWidget(PlannerClient & client, QWidget * parent = nullptr);

  // What somebody sets that is worth keeping: the chosen goal and the task.
  QString goal() const {return goals_->chosen();}
  QString task() const {return task_->currentText();}
  void setGoal(const QString & name) {goals_->choose(name);}
  void setTask(const QString & task);

Q_SIGNALS:
  // Goal or task is another.
  void settingsChanged();

private:
  QWidget * makeGoalPart();
  QWidget * makePreviewPart();
  QWidget * makePlanButtons();
  QWidget * makeStopButtons();
  QWidget * makeQuestion();
  void connectClient();

  void browse();
  void request(bool execute);
  void answer(bool accept);
  void onStatus(const PlannerStatus & status);
  void onIteration(const Iteration & iteration);
  void onPlan(const PlanSummary & plan);
  void onQuestion(const Question & question);
  void say(const QString & message);
  void complain(const QString & message);
  void showPreview();
  void updateButtons();

  PlannerClient & client_;
  PlannerState state_ = PlannerState::kGone;
  QString plan_id_;
  QImage overlay_;
  QImage prediction_;

  StatusLine * status_;
  GoalList * goals_;
  QPushButton * browse_;
  QPushButton * capture_;
  QPushButton * refresh_;
  Preview * preview_;
  QComboBox * view_;
  QSlider * opacity_;
  QComboBox * task_;
  QPushButton * plan_;
  QPushButton * execute_;
  QPushButton * stop_;
  QPushButton * resume_;
  QPushButton * recover_;
  QFrame * question_;
  QLabel * question_text_;
  CostPlot * costs_;
  QLabel * progress_;
  QLabel * error_;
};

}  // namespace dexwm_rviz
