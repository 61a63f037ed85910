// The camera's picture and the goal's, one over the other, both as the model sees them.
#pragma once

#include <QImage>
#include <QWidget>

namespace dexwm_rviz
{

// The largest part of a picture that has the shape of another, out of its middle: what
// dexwm.geometry.preprocess cuts for a model that sees that shape.
QImage cutToShape(const QImage & picture, const QSize & shape);

class Preview : public QWidget
{
  Q_OBJECT

public:
  explicit Preview(QWidget * parent = nullptr);

  // A picture that is shown cut to the goal's shape.
  void setLive(const QImage & picture);
  // A picture that lies over the live one; null: none.
  void setGoal(const QImage & picture);
  // How much of the goal is seen, in [0, 1].
  void setGoalOpacity(double opacity);
  // Shows one picture whole in place of the two, or the two again (null), and what it says where
  // there is nothing to see.
  void setOnly(bool only, const QImage & picture, const QString & absent);

  QSize sizeHint() const override;
  bool hasHeightForWidth() const override {return true;}
  int heightForWidth(int width) const override;

protected:
  void paintEvent(QPaintEvent * event) override;

private:
  QImage live_;
  QImage goal_;
  QImage single_;
  QString absent_;
  bool only_ = false;
  double opacity_ = 0.5;
};

}  // namespace dexwm_rviz
