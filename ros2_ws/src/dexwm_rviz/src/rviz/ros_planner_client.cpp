#include "rviz/ros_planner_client.hpp"

#include "rviz/image_conversion.hpp"

namespace dexwm_rviz
{

namespace
{

using namespace std::chrono_literals;  // NOLINT(build/namespaces)

constexpr auto kLookPeriod = 250ms;
// The planner reports every second; one that was killed stays in the graph for longer than this.
constexpr auto kSilence = 5s;
// Longer than a recovery takes.
constexpr auto kAnswerTimeout = 30s;
constexpr auto kCameraPeriod = 80ms;

const rclcpp::QoS kLatched = rclcpp::QoS(1).transient_local();

std::string lastPart(const std::string & name)
{
  return name.substr(name.rfind('/') + 1);
}

QString text(const std::string & value)
{
  return QString::fromStdString(value);
}

std::string valueOf(const diagnostic_msgs::msg::DiagnosticStatus & status, const char * key)
{
  for (const auto & each : status.values) {
    if (each.key == key) {
      return each.value;
    }
  }
  return {};
}

QDateTime toDateTime(const builtin_interfaces::msg::Time & stamp)
{
  return QDateTime::fromMSecsSinceEpoch(qint64(stamp.sec) * 1000 + stamp.nanosec / 1000000);
}

}  // namespace

RosPlannerClient::RosPlannerClient(const RosNames & names, QObject * parent)
: PlannerClient(parent), names_(names)
{
  const auto number = std::hash<const void *>()(this);
  const std::string name = "dexwm_panel_" + std::to_string(number);
  // The program's remappings hold here, too, but not its name for its node: several panels have
  // several nodes. What a node is given itself comes first.
  node_ = std::make_shared<rclcpp::Node>(
    name, rclcpp::NodeOptions().arguments({"--ros-args", "-r", "__node:=" + name})
    .start_parameter_services(false));
  planner_ = rclcpp_action::create_client<PlanToGoal>(node_, names.planner + "/plan_to_goal");
  list_goals_ = makeClient<dexwm_msgs::srv::ListGoals>(names.planner + "/list_goals");
  set_goal_ = makeClient<dexwm_msgs::srv::SetGoal>(names.planner + "/set_goal");
  capture_goal_ = makeClient<dexwm_msgs::srv::CaptureGoal>(names.planner + "/capture_goal");
  confirm_ = makeClient<dexwm_msgs::srv::ConfirmPlan>(names.trajectory + "/confirm");
  stop_ = makeClient<Trigger>(names.trajectory + "/stop");
  recover_ = makeClient<Trigger>(names.trajectory + "/recover");
  resume_ = makeClient<Trigger>(names.trajectory + "/resume");
  hear<diagnostic_msgs::msg::DiagnosticArray>(
    "/diagnostics", rclcpp::QoS(10), [this](const auto & message) {onDiagnostics(message);});
  hear<dexwm_msgs::msg::Plan>(
    names.planner + "/plan", kLatched, [this](const auto & message) {onPlan(message);});
  hear<MotionState>(
    names.trajectory + "/state", kLatched, [this](const MotionState & message) {
      motion_ = message;
      Q_EMIT asked(
        {text(message.confirm_plan_id), text(message.confirm_task), int(message.confirm_waypoints),
          message.confirm_seconds_left});
      publishStatus();
    });
  using sensor_msgs::msg::Image;
  hear<Image>(
    names.planner + "/overlay", kLatched,
    [this](const Image & message) {Q_EMIT overlaySeen(toQImage(message));});
  hear<Image>(
    names.planner + "/predicted", kLatched,
    [this](const Image & message) {Q_EMIT predictionSeen(toQImage(message));});
  hear<Image>(
    names.camera, rclcpp::SensorDataQoS().keep_last(1), [this](const Image & message) {
      // More than an eye follows would only queue up before a busy screen.
      if (Clock::now() - camera_shown_ >= kCameraPeriod) {
        camera_shown_ = Clock::now();
        Q_EMIT cameraSeen(toQImage(message));
      }
    });
  timer_ = node_->create_wall_timer(kLookPeriod, [this] {look();});
  executor_.add_node(node_);
  thread_ = std::thread([this] {spin();});
}

RosPlannerClient::~RosPlannerClient()
{
  ending_ = true;
  executor_.cancel();
  thread_.join();
}

void RosPlannerClient::listGoals()
{
  using dexwm_msgs::srv::ListGoals;
  call<ListGoals>(
    list_goals_, std::make_shared<ListGoals::Request>(),
    [this](const ListGoals::Response & response) {
      QVector<GoalEntry> goals;
      for (const auto & goal : response.goals) {
        goals.append({text(goal.name), toDateTime(goal.stamp), toQImage(goal.thumbnail)});
      }
      Q_EMIT goalsListed(goals);
    });
}

void RosPlannerClient::importGoal(const QString & name, const QString & path)
{
  using dexwm_msgs::srv::SetGoal;
  auto request = std::make_shared<SetGoal::Request>();
  request->name = name.toStdString();
  request->path = path.toStdString();
  call<SetGoal>(
    set_goal_, request, [this](const SetGoal::Response & response) {
      if (response.success) {
        Q_EMIT goalStored(text(response.goal.name));
      } else {
        Q_EMIT failed(text(response.message));
      }
    });
}

void RosPlannerClient::captureGoal(const QString & name)
{
  using dexwm_msgs::srv::CaptureGoal;
  auto request = std::make_shared<CaptureGoal::Request>();
  request->name = name.toStdString();
  call<CaptureGoal>(
    capture_goal_, request, [this](const CaptureGoal::Response & response) {
      if (response.success) {
        Q_EMIT goalStored(text(response.goal.name));
      } else {
        Q_EMIT failed(text(response.message));
      }
    });
}

void RosPlannerClient::plan(const PlanRequest & request)
{
  if (!planner_->action_server_is_ready()) {
    Q_EMIT failed(tr("%1 does not answer").arg(text(names_.planner)));
    return;
  }
  std::uint64_t ticket = 0;
  {
    const std::lock_guard lock(mutex_);
    ticket = open_goal_ = ++tickets_;
  }
  PlanToGoal::Goal goal;
  goal.goal_name = request.goal.toStdString();
  goal.task = request.task.toStdString();
  goal.execute = request.execute;
  rclcpp_action::Client<PlanToGoal>::SendGoalOptions options;
  options.goal_response_callback = [this, ticket](const auto & handle) {
      if (!handle && closeGoal(ticket)) {
        Q_EMIT failed(tr("the planner did not take the goal"));
      }
    };
  options.feedback_callback =
    [this](const auto &, const std::shared_ptr<const PlanToGoal::Feedback> feedback) {
      Q_EMIT iterated(
        {int(feedback->step), int(feedback->iteration), feedback->best_cost, feedback->elapsed});
    };
  options.result_callback = [this, ticket, execute = request.execute](const auto & result) {
      onResult(ticket, execute, result);
    };
  planner_->async_send_goal(goal, options);
}

void RosPlannerClient::confirm(const QString & plan_id, bool accept)
{
  using dexwm_msgs::srv::ConfirmPlan;
  auto request = std::make_shared<ConfirmPlan::Request>();
  request->plan_id = plan_id.toStdString();
  request->accept = accept;
  call<ConfirmPlan>(
    confirm_, request, [this](const ConfirmPlan::Response & response) {
      if (!response.success) {
        Q_EMIT failed(text(response.message));
      }
    });
}

void RosPlannerClient::stop()
{
  // First the robot, then what would move it again.
  if (stop_->service_is_ready()) {
    call<Trigger>(
      stop_, std::make_shared<Trigger::Request>(),
      [this](const Trigger::Response & response) {report(response);});
  } else {
    Q_EMIT failed(
      tr("%1 does not answer: use the robot's stop button").arg(text(names_.trajectory)));
  }
  if (planner_->action_server_is_ready()) {
    planner_->async_cancel_all_goals();
  }
}

void RosPlannerClient::resume()
{
  call<Trigger>(
    resume_, std::make_shared<Trigger::Request>(),
    [this](const Trigger::Response & response) {report(response);});
}

void RosPlannerClient::recover()
{
  call<Trigger>(
    recover_, std::make_shared<Trigger::Request>(), [this](const Trigger::Response & response) {
      if (response.success) {
        resume();
      } else {
        report(response);
      }
    });
}

template<typename Service>
RosPlannerClient::Client<Service> RosPlannerClient::makeClient(const std::string & name)
{
  Client<Service> client = node_->create_client<Service>(name);
  prune_.emplace_back(
    name, [client] {
      return client->prune_requests_older_than(
        std::chrono::system_clock::now() - kAnswerTimeout) > 0;
    });
  return client;
}

template<typename Service, typename Answered>
void RosPlannerClient::call(
  const Client<Service> & client, std::shared_ptr<typename Service::Request> request,
  Answered answered)
{
  if (!client->service_is_ready()) {
    Q_EMIT failed(tr("%1 does not answer").arg(text(client->get_service_name())));
    return;
  }
  client->async_send_request(
    request, [answered](typename rclcpp::Client<Service>::SharedFuture future) {
      answered(*future.get());
    });
}

template<typename Message>
void RosPlannerClient::hear(
  const std::string & topic, const rclcpp::QoS & qos,
  std::function<void(const Message &)> callback)
{
  subscriptions_.push_back(
    node_->create_subscription<Message>(
      topic, qos, [callback](const std::shared_ptr<const Message> & message) {
        callback(*message);
      }));
}

void RosPlannerClient::report(const Trigger::Response & response)
{
  if (response.success) {
    Q_EMIT finished(text(response.message));
  } else {
    Q_EMIT failed(text(response.message));
  }
}

void RosPlannerClient::spin()
{
  // Not executor.spin(): an end that comes before its first turn would be lost.
  while (!ending_ && rclcpp::ok()) {
    executor_.spin_once(100ms);
  }
}

void RosPlannerClient::look()
{
  const bool is_here = planner_->action_server_is_ready() && Clock::now() - heard_ < kSilence;
  if (is_here_ && !is_here) {
    const std::lock_guard lock(mutex_);
    if (open_goal_ != 0) {
      open_goal_ = 0;
      Q_EMIT failed(tr("the planner went away while it worked on the goal"));
    }
  }
  is_here_ = is_here;
  if (node_->count_publishers(names_.trajectory + "/state") == 0) {
    motion_ = MotionState();
  }
  for (const auto & [name, prune] : prune_) {
    if (prune()) {
      Q_EMIT failed(tr("%1 gave no answer").arg(text(name)));
    }
  }
  publishStatus();
}

void RosPlannerClient::publishStatus()
{
  PlannerStatus now = status();
  if (now.state != PlannerState::kGone) {
    now.warning = text(warning_);
  }
  Q_EMIT statusChanged(now);
}

PlannerStatus RosPlannerClient::status() const
{
  const QString reason = text(motion_.reason);
  if (!is_here_) {
    return {PlannerState::kGone, tr("waiting for %1").arg(text(names_.planner))};
  }
  if (motion_.state == MotionState::RECOVERING) {
    return {PlannerState::kRecovering, reason};
  }
  if (motion_.state != MotionState::RUN) {
    return {PlannerState::kStopped, reason};
  }
  const bool moves = motion_.moving || !motion_.confirm_plan_id.empty();
  const std::lock_guard lock(mutex_);
  if (moves) {
    return {PlannerState::kExecuting, reason};
  }
  if (open_goal_ != 0 || planner_state_ == "planning") {
    return {PlannerState::kPlanning, reason};
  }
  if (planner_state_ != "ready") {
    return {PlannerState::kNotReady, text(planner_says_)};
  }
  return {PlannerState::kReady, reason};
}

void RosPlannerClient::onDiagnostics(const diagnostic_msgs::msg::DiagnosticArray & message)
{
  for (const auto & each : message.status) {
    if (each.name == lastPart(names_.planner) + ": plans") {
      heard_ = Clock::now();
      // Not the level: an old calibration is worth a warning, yet what can be done stays the same.
      planner_state_ = valueOf(each, "state");
      warning_ = valueOf(each, "warning");
      planner_says_ = each.message;
    }
  }
}

void RosPlannerClient::onPlan(const dexwm_msgs::msg::Plan & message)
{
  PlanSummary plan;
  plan.task = text(message.task);
  plan.goal = text(message.goal_name);
  plan.replan = int(message.replan);
  plan.waypoints = int(message.waypoints.size());
  plan.costs = QVector<double>(message.costs.begin(), message.costs.end());
  plan.planning_time = message.planning_time;
  Q_EMIT planned(plan);
}

void RosPlannerClient::onResult(
  std::uint64_t ticket, bool execute,
  const rclcpp_action::ClientGoalHandle<PlanToGoal>::WrappedResult & result)
{
  if (!closeGoal(ticket)) {
    return;
  }
  if (result.code == rclcpp_action::ResultCode::SUCCEEDED) {
    Q_EMIT finished(execute ? tr("the task is done") : tr("the plan is made"));
  } else if (result.code == rclcpp_action::ResultCode::CANCELED) {
    Q_EMIT finished(tr("cancelled"));
  } else {
    Q_EMIT failed(text(result.result->error_string));
  }
  publishStatus();
}

bool RosPlannerClient::closeGoal(std::uint64_t ticket)
{
  const std::lock_guard lock(mutex_);
  const bool was_open = open_goal_ == ticket;
  if (was_open) {
    open_goal_ = 0;
  }
  return was_open;
}

}  // namespace dexwm_rviz
