#include "panel/status_line.hpp"

#include <QGridLayout>
#include <QPainter>

namespace dexwm_rviz
{

namespace
{

struct Look
{
  QString word;
  QColor colour;
};

// Colours that are told apart on light and on dark ground.
Look lookOf(PlannerState state)
{
  const QColor red("#d9453d"), amber("#e09b1a"), blue("#3584e4"), green("#2ea05a"), grey("#8a8a8a");
  switch (state) {
    case PlannerState::kGone: return {StatusLine::tr("planner is gone"), grey};
    case PlannerState::kRecovering: return {StatusLine::tr("recovering"), amber};
    case PlannerState::kStopped: return {StatusLine::tr("stopped"), red};
    case PlannerState::kPlanning: return {StatusLine::tr("planning"), blue};
    case PlannerState::kExecuting: return {StatusLine::tr("executing"), blue};
    case PlannerState::kNotReady: return {StatusLine::tr("not ready"), amber};
    case PlannerState::kReady: return {StatusLine::tr("ready"), green};
  }
  return {};
}

}  // namespace

StatusLine::StatusLine(QWidget * parent)
: QWidget(parent), dot_(new QLabel), word_(new QLabel), detail_(new QLabel),
  warning_(new QLabel)
{
  QFont bold = font();
  bold.setBold(true);
  word_->setFont(bold);
  detail_->setWordWrap(true);
  warning_->setObjectName("warning");
  warning_->setWordWrap(true);
  warning_->setTextFormat(Qt::PlainText);
  // Readable on light and on dark ground.
  warning_->setStyleSheet(
    "background: rgba(224, 155, 26, 50); border: 1px solid #e09b1a; border-radius: 3px;"
    " padding: 3px; margin-top: 3px;");
  auto * grid = new QGridLayout(this);
  grid->setContentsMargins(0, 0, 0, 0);
  grid->setVerticalSpacing(0);
  grid->setColumnStretch(1, 1);
  grid->addWidget(dot_, 0, 0);
  grid->addWidget(word_, 0, 1);
  grid->addWidget(detail_, 1, 1);
  grid->addWidget(warning_, 2, 0, 1, 2);
  show(PlannerStatus{});
}

void StatusLine::show(const PlannerStatus & status)
{
  const Look look = lookOf(status.state);
  const int side = fontMetrics().height();
  QPixmap dot(side, side);
  dot.fill(Qt::transparent);
  QPainter painter(&dot);
  painter.setRenderHint(QPainter::Antialiasing);
  painter.setPen(Qt::NoPen);
  painter.setBrush(look.colour);
  painter.drawEllipse(QRectF(dot.rect()).adjusted(2, 2, -2, -2));
  painter.end();
  dot_->setPixmap(dot);
  word_->setText(look.word);
  detail_->setText(status.detail);
  detail_->setVisible(!status.detail.isEmpty());
  warning_->setText(status.warning);
  warning_->setVisible(!status.warning.isEmpty());
}

}  // namespace dexwm_rviz
