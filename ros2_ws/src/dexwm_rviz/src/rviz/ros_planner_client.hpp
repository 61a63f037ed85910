// The planner and the trajectory node, over ROS.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <dexwm_msgs/action/plan_to_goal.hpp>
#include <dexwm_msgs/msg/motion_state.hpp>
#include <dexwm_msgs/msg/plan.hpp>
#include <dexwm_msgs/srv/capture_goal.hpp>
#include <dexwm_msgs/srv/confirm_plan.hpp>
#include <dexwm_msgs/srv/list_goals.hpp>
#include <dexwm_msgs/srv/set_goal.hpp>
#include <diagnostic_msgs/msg/diagnostic_array.hpp>
#include <rclcpp/rclcpp.hpp>
#include <rclcpp_action/rclcpp_action.hpp>
#include <sensor_msgs/msg/image.hpp>
#include <std_srvs/srv/trigger.hpp>

#include "panel/planner_client.hpp"

namespace dexwm_rviz
{

// Names of the nodes and of the camera's topic.
struct RosNames
{
  std::string planner = "/planner";
  std::string trajectory = "/trajectory";
  std::string camera = "/camera/color/image_raw";
};

// Has a node and a thread of its own: what is slow or missing here holds up nobody. rclcpp must be
// initialised, and outlive it.
class RosPlannerClient : public PlannerClient
{
public:
  explicit RosPlannerClient(const RosNames & names = {}, QObject * parent = nullptr);
  ~RosPlannerClient() override;

  void listGoals() override;
  void importGoal(const QString & name, const QString & path) override;
  void captureGoal(const QString & name) override;
  void plan(const PlanRequest & request) override;
  void confirm(const QString & plan_id, bool accept) override;
  void stop() override;
  void resume() override;
  void recover() override;

private:
  using Clock = std::chrono::steady_clock;
  using PlanToGoal = dexwm_msgs::action::PlanToGoal;
  using MotionState = dexwm_msgs::msg::MotionState;
  using Trigger = std_srvs::srv::Trigger;
  template<typename Service>
  using Client = std::shared_ptr<rclcpp::Client<Service>>;

  template<typename Service>
  Client<Service> makeClient(const std::string & name);
  template<typename Service, typename Answered>
  void call(
    const Client<Service> & client, std::shared_ptr<typename Service::Request> request,
    Answered answered);
  template<typename Message>
  void hear(
    const std::string & topic, const rclcpp::QoS & qos,
    std::function<void(const Message &)> callback);
  void report(const Trigger::Response & response);
  void spin();
  void look();
  void publishStatus();
  PlannerStatus status() const;
  void onDiagnostics(const diagnostic_msgs::msg::DiagnosticArray & message);
  void onPlan(const dexwm_msgs::msg::Plan & message);
  void onResult(
    std::uint64_t ticket, bool execute,
    const rclcpp_action::ClientGoalHandle<PlanToGoal>::WrappedResult & result);
  bool closeGoal(std::uint64_t ticket);

  RosNames names_;
  rclcpp::Node::SharedPtr node_;
  rclcpp::executors::SingleThreadedExecutor executor_;
  std::vector<rclcpp::SubscriptionBase::SharedPtr> subscriptions_;
  std::vector<std::pair<std::string, std::function<bool()>>> prune_;
  rclcpp::TimerBase::SharedPtr timer_;
  rclcpp_action::Client<PlanToGoal>::SharedPtr planner_;
  Client<dexwm_msgs::srv::ListGoals> list_goals_;
  Client<dexwm_msgs::srv::SetGoal> set_goal_;
  Client<dexwm_msgs::srv::CaptureGoal> capture_goal_;
  Client<dexwm_msgs::srv::ConfirmPlan> confirm_;
  Client<Trigger> stop_;
  Client<Trigger> resume_;
  Client<Trigger> recover_;

  // Guards what both threads touch.
  mutable std::mutex mutex_;
  std::uint64_t tickets_ = 0;
  // The goal under way, 0: none of ours.
  std::uint64_t open_goal_ = 0;

  // The thread's own.
  bool is_here_ = false;
  // State, message and warning of the planner's report.
  std::string planner_state_;
  std::string planner_says_;
  std::string warning_;
  Clock::time_point heard_;
  Clock::time_point camera_shown_;
  MotionState motion_;

  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace dexwm_rviz
