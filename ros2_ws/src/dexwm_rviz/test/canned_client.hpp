// A planner without ROS for the panel's tests: keeps what was asked, answers when told to.
#pragma once

#include <QStringList>

#include "panel/planner_client.hpp"

class CannedClient : public dexwm_rviz::PlannerClient
{
  Q_OBJECT

public:
  QStringList calls;

  void listGoals() override {calls << "list";}
  void importGoal(const QString & name, const QString & path) override
  {
    calls << "import " + name + " " + path;
  }
  void captureGoal(const QString & name) override {calls << "capture " + name;}
  void plan(const dexwm_rviz::PlanRequest & request) override
  {
    calls << request.task + " " + request.goal + (request.execute ? " and move" : "");
  }
  void confirm(const QString & plan_id, bool accept) override
  {
    calls << (accept ? "accept " : "decline ") + plan_id;
  }
  void stop() override {calls << "stop";}
  void resume() override {calls << "resume";}
  void recover() override {calls << "recover";}

  void be(
    dexwm_rviz::PlannerState state, const QString & detail = {}, const QString & warning = {})
  {
    Q_EMIT statusChanged({state, detail, warning});
  }
};
