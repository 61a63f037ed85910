#include "panel/preview.hpp"

#include <QPainter>

#include <algorithm>
#include <cmath>

namespace dexwm_rviz
{

namespace
{

// Shape of the paper's pictures, 392 x 224, while there is none.
constexpr QSize kShape(392, 224);

}  // namespace

QImage cutToShape(const QImage & picture, const QSize & shape)
{
  if (picture.isNull() || shape.isEmpty()) {
    return picture;
  }
  const double scale = std::max(
    double(shape.width()) / picture.width(), double(shape.height()) / picture.height());
  const int width = std::min(picture.width(), int(std::lround(shape.width() / scale)));
  const int height = std::min(picture.height(), int(std::lround(shape.height() / scale)));
  return picture.copy(
    (picture.width() - width) / 2, (picture.height() - height) / 2, width, height);
}

Preview::Preview(QWidget * parent)
: QWidget(parent)
{
  QSizePolicy policy(QSizePolicy::Expanding, QSizePolicy::Preferred);
  policy.setHeightForWidth(true);
  setSizePolicy(policy);
  setMinimumSize(160, 92);
}

void Preview::setLive(const QImage & picture)
{
  live_ = picture;
  update();
}

void Preview::setGoal(const QImage & picture)
{
  goal_ = picture;
  update();
}

void Preview::setGoalOpacity(double opacity)
{
  opacity_ = std::clamp(opacity, 0.0, 1.0);
  update();
}

void Preview::setOnly(bool only, const QImage & picture, const QString & absent)
{
  only_ = only;
  single_ = picture;
  absent_ = absent;
  update();
}

QSize Preview::sizeHint() const
{
  return {300, heightForWidth(300)};
}

int Preview::heightForWidth(int width) const
{
  return width * kShape.height() / kShape.width();
}

void Preview::paintEvent(QPaintEvent *)
{
  QPainter painter(this);
  painter.setRenderHint(QPainter::SmoothPixmapTransform);
  painter.fillRect(rect(), QColor("#202020"));
  const QImage base = only_ ? single_ : cutToShape(live_, goal_.size());
  const QSize shape = !base.isNull() ? base.size() : goal_.isNull() ? kShape : goal_.size();
  QRect area({0, 0}, shape.scaled(size(), Qt::KeepAspectRatio));
  area.moveCenter(rect().center());
  const bool with_goal = !only_ && !goal_.isNull();
  if (!base.isNull()) {
    painter.drawImage(area, base);
  }
  if (with_goal) {
    painter.setOpacity(base.isNull() ? 1.0 : opacity_);
    painter.drawImage(area, goal_);
    painter.setOpacity(1.0);
  }
  const QString missing = only_ ? absent_ : tr("no picture from the camera");
  if (base.isNull()) {
    const QRect line(0, height() - fontMetrics().height() - 8, width(), fontMetrics().height() + 8);
    painter.fillRect(with_goal ? line : QRect(), QColor(0, 0, 0, 140));
    painter.setPen(QColor("#e0e0e0"));
    painter.drawText(with_goal ? line : rect(), Qt::AlignCenter | Qt::TextWordWrap, missing);
  }
}

}  // namespace dexwm_rviz
