#include "panel/goal_list.hpp"

#include <QLocale>
#include <QScrollBar>
#include <QSignalBlocker>

namespace dexwm_rviz
{

namespace
{

constexpr QSize kThumbnail(112, 64);

}  // namespace

GoalList::GoalList(QWidget * parent)
: QListWidget(parent)
{
  setViewMode(QListView::IconMode);
  setFlow(QListView::LeftToRight);
  setWrapping(false);
  setMovement(QListView::Static);
  setUniformItemSizes(true);
  setIconSize(kThumbnail);
  setGridSize({kThumbnail.width() + 10, kThumbnail.height() + fontMetrics().height() + 12});
  setTextElideMode(Qt::ElideMiddle);
  setVerticalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  setHorizontalScrollBarPolicy(Qt::ScrollBarAsNeeded);
  setHorizontalScrollMode(QAbstractItemView::ScrollPerPixel);
  setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
  setSelectionMode(QAbstractItemView::SingleSelection);
  connect(this, &QListWidget::currentItemChanged, this, &GoalList::chosenChanged);
}

void GoalList::setGoals(const QVector<GoalEntry> & goals)
{
  const QString before = chosen();
  const QString name = wanted_.isEmpty() ? before : wanted_;
  {
    const QSignalBlocker quiet(this);
    clear();
    goals_ = goals;
    for (const GoalEntry & goal : goals_) {
      const QPixmap pixmap = QPixmap::fromImage(
        goal.thumbnail.scaled(kThumbnail, Qt::KeepAspectRatio, Qt::SmoothTransformation));
      auto * entry = new QListWidgetItem(QIcon(pixmap), goal.name, this);
      entry->setToolTip(
        tr("%1, %2").arg(goal.name, QLocale().toString(goal.stamp, QLocale::ShortFormat)));
    }
    choose(name);
  }
  Q_EMIT chosenChanged();
}

void GoalList::choose(const QString & name)
{
  wanted_.clear();
  for (int row = 0; row < count(); ++row) {
    if (item(row)->text() == name) {
      setCurrentRow(row);
      scrollToItem(item(row));
      return;
    }
  }
  wanted_ = name;
}

QString GoalList::chosen() const
{
  return currentItem() ? currentItem()->text() : QString();
}

QImage GoalList::chosenPicture() const
{
  return currentItem() ? goals_[currentRow()].thumbnail : QImage();
}

QSize GoalList::sizeHint() const
{
  const int bar = horizontalScrollBar()->sizeHint().height();
  return {300, gridSize().height() + bar + 2 * frameWidth()};
}

QSize GoalList::minimumSizeHint() const
{
  return {gridSize().width(), sizeHint().height()};
}

}  // namespace dexwm_rviz
