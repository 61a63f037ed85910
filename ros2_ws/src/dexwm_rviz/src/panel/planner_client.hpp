// What the panel knows of the planner. Knows no ROS.
#pragma once

#include <QDateTime>
#include <QImage>
#include <QObject>
#include <QString>
#include <QVector>

namespace dexwm_rviz
{

// How planner and robot are; the first ones that hold.
enum class PlannerState
{
  kGone,        // no planner answers
  kRecovering,  // the robot recovers
  kStopped,     // nothing moves until somebody resumes or recovers
  kPlanning,    // a goal is planned for
  kExecuting,   // the robot moves, or asks for it
  kNotReady,    // inputs are missing
  kReady,
};

struct PlannerStatus
{
  PlannerState state = PlannerState::kGone;
  // Why it is so, if there is something to say.
  QString detail;
  // What somebody should know although it keeps nothing from working.
  QString warning{};
};

// An entry of the goal library.
struct GoalEntry
{
  QString name;
  QDateTime stamp;
  // As the model sees it.
  QImage thumbnail;
};

struct PlanRequest
{
  // A name in the goal library.
  QString goal;
  // reach, grasp, place or push.
  QString task;
  // Whether the robot moves.
  bool execute = false;
};

struct Iteration
{
  // Step of model-predictive control and iteration of the optimiser, counted from zero.
  int step = 0;
  int iteration = 0;
  // The best cost so far (unitless, lower is better).
  double best_cost = 0.0;
  // Time since planning began (s).
  double elapsed = 0.0;
};

struct PlanSummary
{
  QString task;
  QString goal;
  // Number of the plan within its task, counted from zero.
  int replan = 0;
  int waypoints = 0;
  // The best cost after each iteration.
  QVector<double> costs;
  // Time spent planning (s).
  double planning_time = 0.0;
};

// A plan that waits for a person; no id: none does.
struct Question
{
  QString plan_id;
  QString task;
  int waypoints = 0;
  double seconds_left = 0.0;
};

// A planner, asked and answering without ever making the caller wait.
//
// Every slot returns at once; answers come as signals, also from other threads: connect with
// Qt::AutoConnection.
class PlannerClient : public QObject
{
  Q_OBJECT

public:
  explicit PlannerClient(QObject * parent = nullptr);

public Q_SLOTS:
  // Asks for the goal library: answered by goalsListed.
  virtual void listGoals() = 0;
  // Imports a picture file, by its path on the planner's machine: answered by goalStored.
  virtual void importGoal(const QString & name, const QString & path) = 0;
  // Stores the next camera picture: answered by goalStored.
  virtual void captureGoal(const QString & name) = 0;
  // Plans, and moves if asked: answered by iterated, planned, finished or failed.
  virtual void plan(const dexwm_rviz::PlanRequest & request) = 0;
  // Answers the question that was asked.
  virtual void confirm(const QString & plan_id, bool accept) = 0;
  // Brings the robot to rest, whoever moves it, and cancels what is planned.
  virtual void stop() = 0;
  // Lets motions in again after a stop. Nothing moves by it.
  virtual void resume() = 0;
  // Clears the robot's errors and lets motions in again. Nothing moves by it.
  virtual void recover() = 0;

Q_SIGNALS:
  void statusChanged(const dexwm_rviz::PlannerStatus & status);
  void goalsListed(const QVector<dexwm_rviz::GoalEntry> & goals);
  void goalStored(const QString & name);
  // Newest picture of the camera, as it comes.
  void cameraSeen(const QImage & picture);
  // The picture that was planned from, with the hand's predicted keypoints on it.
  void overlaySeen(const QImage & picture);
  // What the model expects to see at the end of the plan.
  void predictionSeen(const QImage & picture);
  void iterated(const dexwm_rviz::Iteration & iteration);
  void planned(const dexwm_rviz::PlanSummary & plan);
  void asked(const dexwm_rviz::Question & question);
  // What was asked for is done, in words.
  void finished(const QString & message);
  // What was asked for was refused or went wrong, and what to do about it.
  void failed(const QString & message);
};

}  // namespace dexwm_rviz

Q_DECLARE_METATYPE(dexwm_rviz::PlannerStatus)
Q_DECLARE_METATYPE(dexwm_rviz::GoalEntry)
Q_DECLARE_METATYPE(dexwm_rviz::PlanRequest)
Q_DECLARE_METATYPE(dexwm_rviz::Iteration)
Q_DECLARE_METATYPE(dexwm_rviz::PlanSummary)
Q_DECLARE_METATYPE(dexwm_rviz::Question)
