// The panel in RViz.
#pragma once

#include <memory>

#include <rviz_common/config.hpp>
#include <rviz_common/panel.hpp>

#include "panel/panel_widget.hpp"
#include "rviz/ros_planner_client.hpp"

namespace dexwm_rviz
{

class RvizPanel : public rviz_common::Panel
{
  Q_OBJECT

public:
  explicit RvizPanel(QWidget * parent = nullptr);
  ~RvizPanel() override;

  void onInitialize() override;
  void load(const rviz_common::Config & config) override;
  void save(rviz_common::Config config) const override;

private:
  // Speaks to the nodes of these names from now on.
  void build();

  RosNames names_;
  // The widget is gone before the client that it speaks to.
  std::unique_ptr<RosPlannerClient> client_;
  std::unique_ptr<PanelWidget> widget_;
};

}  // namespace dexwm_rviz
