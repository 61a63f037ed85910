// Pictures of messages for Qt.
#pragma once

#include <QImage>

#include <sensor_msgs/msg/image.hpp>

namespace dexwm_rviz
{

// A copy of the message's picture; null where it is malformed or its encoding none of rgb8, bgr8,
// rgba8, bgra8 and mono8.
QImage toQImage(const sensor_msgs::msg::Image & message);

}  // namespace dexwm_rviz
