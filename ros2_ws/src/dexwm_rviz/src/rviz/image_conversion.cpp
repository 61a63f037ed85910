#include "rviz/image_conversion.hpp"

#include <cstdint>
#include <string>

namespace dexwm_rviz
{

namespace
{

struct Encoding
{
  QImage::Format format = QImage::Format_Invalid;
  std::size_t bytes = 0;
  bool swap = false;
};

Encoding encodingOf(const std::string & name)
{
  if (name == "rgb8") {return {QImage::Format_RGB888, 3, false};}
  if (name == "bgr8") {return {QImage::Format_RGB888, 3, true};}
  if (name == "rgba8") {return {QImage::Format_RGBA8888, 4, false};}
  if (name == "bgra8") {return {QImage::Format_RGBA8888, 4, true};}
  if (name == "mono8") {return {QImage::Format_Grayscale8, 1, false};}
  return {};
}

}  // namespace

QImage toQImage(const sensor_msgs::msg::Image & message)
{
  const Encoding encoding = encodingOf(message.encoding);
  constexpr std::uint32_t kLargest = 1 << 14;
  if (encoding.format == QImage::Format_Invalid || message.width == 0 || message.height == 0 ||
    message.width > kLargest || message.height > kLargest ||
    message.step < message.width * encoding.bytes ||
    message.data.size() < std::size_t(message.step) * message.height)
  {
    return {};
  }
  const QImage borrowed(
    message.data.data(), int(message.width), int(message.height), int(message.step),
    encoding.format);
  return encoding.swap ? borrowed.rgbSwapped() : borrowed.copy();
}

}  // namespace dexwm_rviz
