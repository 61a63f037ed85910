// The best cost over the iterations, painted.
#pragma once

#include <QVector>
#include <QWidget>

namespace dexwm_rviz
{

class CostPlot : public QWidget
{
  Q_OBJECT

public:
  explicit CostPlot(QWidget * parent = nullptr);

  // Forgets all points.
  void clear();
  // Adds the best cost after one more iteration; one that is not a number is left out.
  void append(double cost);
  // Shows these costs and no others.
  void setCosts(const QVector<double> & costs);
  const QVector<double> & costs() const {return costs_;}

  QSize sizeHint() const override;
  QSize minimumSizeHint() const override;

protected:
  void paintEvent(QPaintEvent * event) override;

private:
  QVector<double> costs_;
};

}  // namespace dexwm_rviz
