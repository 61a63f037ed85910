#include "rviz/rviz_panel.hpp"

#include <QVBoxLayout>

#include <pluginlib/class_list_macros.hpp>

namespace dexwm_rviz
{

namespace
{

void read(const rviz_common::Config & config, const char * key, std::string & value)
{
  QString text;
  if (config.mapGetString(key, &text) && !text.isEmpty()) {
    value = text.toStdString();
  }
}

}  // namespace

RvizPanel::RvizPanel(QWidget * parent)
: rviz_common::Panel(parent)
{
  (new QVBoxLayout(this))->setContentsMargins(0, 0, 0, 0);
}

RvizPanel::~RvizPanel() = default;

void RvizPanel::onInitialize()
{
  build();
}

void RvizPanel::load(const rviz_common::Config & config)
{
  rviz_common::Panel::load(config);
  read(config, "Planner", names_.planner);
  read(config, "Trajectory", names_.trajectory);
  read(config, "Camera Topic", names_.camera);
  build();
  QString text;
  if (config.mapGetString("Task", &text)) {
    widget_->setTask(text);
  }
  if (config.mapGetString("Goal", &text)) {
    widget_->setGoal(text);
  }
}

void RvizPanel::save(rviz_common::Config config) const
{
  rviz_common::Panel::save(config);
  config.mapSetValue("Planner", QString::fromStdString(names_.planner));
  config.mapSetValue("Trajectory", QString::fromStdString(names_.trajectory));
  config.mapSetValue("Camera Topic", QString::fromStdString(names_.camera));
  if (widget_) {
    config.mapSetValue("Task", widget_->task());
    config.mapSetValue("Goal", widget_->goal());
  }
}

void RvizPanel::build()
{
  widget_.reset();
  client_ = std::make_unique<RosPlannerClient>(names_);
  widget_ = std::make_unique<PanelWidget>(*client_);
  layout()->addWidget(widget_.get());
  connect(widget_.get(), &PanelWidget::settingsChanged, this, &RvizPanel::configChanged);
}

}  // namespace dexwm_rviz

PLUGINLIB_EXPORT_CLASS(dexwm_rviz::RvizPanel, rviz_common::Panel)
