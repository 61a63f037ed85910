#include "panel/planner_client.hpp"

namespace dexwm_rviz
{

PlannerClient::PlannerClient(QObject * parent)
: QObject(parent)
{
  // Signals of other threads carry these through the queue; Qt 5 finds them by these names.
  qRegisterMetaType<PlannerStatus>("dexwm_rviz::PlannerStatus");
  qRegisterMetaType<QVector<GoalEntry>>("QVector<dexwm_rviz::GoalEntry>");
  qRegisterMetaType<PlanRequest>("dexwm_rviz::PlanRequest");
  qRegisterMetaType<Iteration>("dexwm_rviz::Iteration");
  qRegisterMetaType<PlanSummary>("dexwm_rviz::PlanSummary");
  qRegisterMetaType<Question>("dexwm_rviz::Question");
}

}  // namespace dexwm_rviz
