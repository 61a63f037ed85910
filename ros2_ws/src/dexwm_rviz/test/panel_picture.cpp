// Saves a picture of the panel: panel_picture OUT.png WIDTH light|dark CAMERA OVERLAY GOAL...
#include <QApplication>
#include <QImage>
#include <QLayout>
#include <QScrollArea>
#include <QStyleFactory>

#include "canned_client.hpp"
#include "panel/panel_widget.hpp"

using namespace dexwm_rviz;  // NOLINT(build/namespaces)

namespace
{

QPalette dark()
{
  QPalette palette;
  const QColor ground(45, 45, 45), text(230, 230, 230), faint(130, 130, 130);
  for (const auto role : {QPalette::Window, QPalette::Button}) {
    palette.setColor(role, ground);
  }
  palette.setColor(QPalette::Base, QColor(32, 32, 32));
  for (const auto role : {QPalette::WindowText, QPalette::Text, QPalette::ButtonText}) {
    palette.setColor(role, text);
    palette.setColor(QPalette::Disabled, role, faint);
  }
  palette.setColor(QPalette::Highlight, QColor(53, 132, 228));
  palette.setColor(QPalette::HighlightedText, Qt::white);
  return palette;
}

}  // namespace

int main(int argc, char ** argv)
{
  QApplication application(argc, argv);
  const QStringList arguments = application.arguments();
  if (arguments.size() < 7) {
    qFatal("usage: panel_picture OUT.png WIDTH light|dark CAMERA OVERLAY GOAL...");
  }
  QApplication::setStyle(QStyleFactory::create("Fusion"));
  if (arguments[3] == "dark") {
    QApplication::setPalette(dark());
  }
  CannedClient client;
  PanelWidget panel(client);
  client.be(PlannerState::kReady);
  QVector<GoalEntry> goals;
  for (int i = 6; i < arguments.size(); ++i) {
    const QImage goal(arguments[i]);
    goals.append(
      {QString("can-%1").arg(i - 5), QDateTime::currentDateTime(),
        goal.scaledToWidth(192, Qt::SmoothTransformation)});
  }
  Q_EMIT client.goalsListed(goals);
  panel.setGoal("can-1");
  panel.setTask("grasp");
  Q_EMIT client.cameraSeen(QImage(arguments[4]));
  Q_EMIT client.overlaySeen(QImage(arguments[5]));
  Q_EMIT client.planned(
    {"grasp", "can-1", 0, 3, {2.9, 2.1, 1.7, 1.45, 1.4, 1.21, 1.1, 1.08, 1.02, 1.0}, 3.2});
  if (arguments[3] == "dark") {
    client.be(PlannerState::kStopped, "the arm reports: joint 4 hit its velocity limit");
    Q_EMIT client.failed("Motion refused: the robot is stopped. Call ~/recover, then ~/resume.");
    Q_EMIT client.asked({"plan", "grasp", 3, 24.0});
  }
  panel.resize(arguments[2].toInt(), 10);
  panel.show();
  application.processEvents();
  const auto * scroll = panel.findChild<QScrollArea *>();
  const int below = panel.height() - scroll->height(), width = arguments[2].toInt();
  panel.resize(width, scroll->widget()->layout()->totalHeightForWidth(width) + below);
  application.processEvents();
  return panel.grab().save(arguments[1]) ? 0 : 1;
}
