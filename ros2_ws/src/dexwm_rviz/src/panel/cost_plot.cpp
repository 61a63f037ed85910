#include "panel/cost_plot.hpp"

#include <QPainter>
#include <QPainterPath>

#include <algorithm>
#include <cmath>

namespace dexwm_rviz
{

CostPlot::CostPlot(QWidget * parent)
: QWidget(parent)
{
  setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
  setToolTip(tr("Best cost of the plan after each iteration of the optimiser; lower is better"));
}

void CostPlot::clear()
{
  costs_.clear();
  update();
}

void CostPlot::append(double cost)
{
  if (std::isfinite(cost)) {
    costs_.append(cost);
    update();
  }
}

void CostPlot::setCosts(const QVector<double> & costs)
{
  costs_.clear();
  for (const double cost : costs) {
    append(cost);
  }
  update();
}

QSize CostPlot::sizeHint() const
{
  return {300, 6 * fontMetrics().height()};
}

QSize CostPlot::minimumSizeHint() const
{
  return {120, 4 * fontMetrics().height()};
}

void CostPlot::paintEvent(QPaintEvent *)
{
  QPainter painter(this);
  painter.setRenderHint(QPainter::Antialiasing);
  const QFontMetrics metrics = fontMetrics();
  QColor faint = palette().color(QPalette::WindowText);
  faint.setAlphaF(0.6);
  QColor grid = faint;
  grid.setAlphaF(0.15);
  const QRectF frame = QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5);
  painter.setPen(grid);
  painter.setBrush(palette().base());
  painter.drawRoundedRect(frame, 3, 3);
  painter.setPen(faint);
  if (costs_.isEmpty()) {
    painter.drawText(rect(), Qt::AlignCenter, tr("no plan yet"));
    return;
  }
  const auto [lowest, highest] = std::minmax_element(costs_.begin(), costs_.end());
  const double span = std::max(*highest - *lowest, 1e-9);
  const int pad = metrics.height() / 2;
  const QRectF area = frame.adjusted(pad, metrics.height() + pad, -pad, -pad);
  painter.drawText(
    frame.adjusted(pad, pad / 2, -pad, 0), Qt::AlignLeft | Qt::AlignTop,
    costs_.size() == 1 ? tr("cost, 1 iteration") : tr("cost, %1 iterations").arg(costs_.size()));
  painter.drawText(
    frame.adjusted(pad, pad / 2, -pad, 0), Qt::AlignRight | Qt::AlignTop,
    tr("%1 \u2192 %2").arg(costs_.first(), 0, 'g', 3).arg(costs_.last(), 0, 'g', 3));
  painter.setPen(grid);
  for (int line = 0; line <= 2; ++line) {
    const double y = area.top() + area.height() * line / 2.0;
    painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y));
  }
  const auto place = [&](int i) {
      const double x = costs_.size() == 1 ? 0.0 : double(i) / double(costs_.size() - 1);
      const double y = (*highest - costs_[i]) / span;
      return QPointF(area.left() + x * area.width(), area.top() + y * area.height());
    };
  QPainterPath curve(place(0));
  for (int i = 1; i < costs_.size(); ++i) {
    curve.lineTo(place(i));
  }
  const QColor colour = palette().color(QPalette::Highlight);
  painter.setBrush(Qt::NoBrush);
  painter.setPen(QPen(colour, 2));
  painter.drawPath(curve);
  painter.setBrush(colour);
  painter.setPen(Qt::NoPen);
  painter.drawEllipse(place(costs_.size() - 1), 3.5, 3.5);
}

}  // namespace dexwm_rviz
