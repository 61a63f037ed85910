// Speaks to a planner through RosPlannerClient: a line in is a call, a line out a signal.
#include <QCoreApplication>

#include <iostream>
#include <string>
#include <thread>

#include "rviz/ros_planner_client.hpp"

using namespace dexwm_rviz;  // NOLINT(build/namespaces)

namespace
{

void say(const QString & line)
{
  std::cout << line.toStdString() << std::endl;
}

}  // namespace

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  QCoreApplication application(argc, argv);
  {
    RosPlannerClient client;
    PlannerStatus last{PlannerState::kReady, "?"};
    const auto on = [&](auto signal, auto slot) {
        QObject::connect(&client, signal, &application, slot);
      };
    on(&PlannerClient::statusChanged, [&](const PlannerStatus & status) {
        if (status.state != last.state || status.detail != last.detail ||
          status.warning != last.warning)
        {
          last = status;
          const QString warning = status.warning.isEmpty() ? "" : "warning " + status.warning;
          say(QString("status %1 %2%3").arg(int(status.state)).arg(status.detail, warning));
        }
      });
    on(&PlannerClient::goalsListed, [](const QVector<GoalEntry> & goals) {
        QString line("goals");
        for (const GoalEntry & goal : goals) {
          line += QString(" %1/%2x%3/%4").arg(goal.name).arg(goal.thumbnail.width())
            .arg(goal.thumbnail.height()).arg(goal.thumbnail.pixelColor(0, 0).name());
        }
        say(line);
      });
    on(&PlannerClient::goalStored, [](const QString & name) {say("stored " + name);});
    on(&PlannerClient::cameraSeen, [](const QImage & picture) {
        say(QString("camera %1").arg(picture.pixelColor(0, 0).name()));
      });
    on(&PlannerClient::overlaySeen, [](const QImage & picture) {
        say(QString("overlay %1").arg(picture.pixelColor(0, 0).name()));
      });
    on(&PlannerClient::iterated, [](const Iteration & iteration) {
        say(QString("iteration %1 %2").arg(iteration.iteration).arg(iteration.best_cost));
      });
    on(&PlannerClient::planned, [](const PlanSummary & plan) {
        say(QString("plan %1 %2 %3").arg(plan.task).arg(plan.waypoints).arg(plan.costs.size()));
      });
    on(&PlannerClient::asked, [](const Question & question) {
        if (!question.plan_id.isEmpty()) {
          say("asked " + question.plan_id);
        }
      });
    on(&PlannerClient::finished, [](const QString & message) {say("finished " + message);});
    on(&PlannerClient::failed, [](const QString & message) {say("failed " + message);});
    std::thread reader([&] {
        std::string line;
        while (std::getline(std::cin, line)) {
          const QStringList words = QString::fromStdString(line).split(' ');
          QMetaObject::invokeMethod(&client, [&client, words] {
              if (words[0] == "list") {client.listGoals();}
              if (words[0] == "import") {client.importGoal(words[1], words[2]);}
              if (words[0] == "capture") {client.captureGoal(words[1]);}
              if (words[0] == "plan") {client.plan({words[2], words[1], false});}
              if (words[0] == "execute") {client.plan({words[2], words[1], true});}
              if (words[0] == "confirm") {client.confirm(words[1], words[2] == "yes");}
              if (words[0] == "stop") {client.stop();}
              if (words[0] == "resume") {client.resume();}
              if (words[0] == "recover") {client.recover();}
            });
        }
        QMetaObject::invokeMethod(&application, [&] {application.quit();});
      });
    application.exec();
    reader.join();
  }
  rclcpp::shutdown();
  return 0;
}
