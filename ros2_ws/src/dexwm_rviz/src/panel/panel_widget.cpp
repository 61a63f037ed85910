#include "panel/panel_widget.hpp"

#include <QDateTime>
#include <QFileDialog>
#include <QFileInfo>
#include <QGridLayout>
#include <QHBoxLayout>
#include <QRegularExpression>
#include <QScrollArea>
#include <QTime>
#include <QVBoxLayout>

namespace dexwm_rviz
{

namespace
{

enum View { kCameraAndGoal, kKeypoints, kPrediction };

constexpr int kLongestName = 64;

// Said in the buttons' own names, so that tests and style sheets find them.
template<typename Widget>
Widget * named(Widget * widget, const char * name)
{
  widget->setObjectName(name);
  return widget;
}

QPushButton * button(const QString & text, const char * name, const QString & tip)
{
  auto * made = named(new QPushButton(text), name);
  made->setToolTip(tip);
  // Buttons may get as narrow as the panel.
  made->setMinimumWidth(10);
  return made;
}

}  // namespace

QString goalNameOf(const QString & path)
{
  static const QRegularExpression other("[^A-Za-z0-9_.-]+"), start("^[^A-Za-z0-9]+");
  QString name = QFileInfo(path).completeBaseName().replace(other, "_").remove(start);
  name.truncate(kLongestName);
  return name.isEmpty() ? "goal" : name;
}

PanelWidget::PanelWidget(PlannerClient & client, QWidget * parent)
: QWidget(parent), client_(client), status_(named(new StatusLine, "status")),
  costs_(named(new CostPlot, "costs")), progress_(named(new QLabel, "progress")),
  error_(named(new QLabel, "error"))
{
  progress_->setWordWrap(true);
  error_->setWordWrap(true);
  error_->setTextInteractionFlags(Qt::TextSelectableByMouse);
  error_->setTextFormat(Qt::PlainText);
  error_->hide();

  auto * content = new QWidget;
  auto * column = new QVBoxLayout(content);
  column->setContentsMargins(6, 6, 6, 6);
  column->addWidget(status_);
  column->addWidget(error_);
  column->addWidget(makeGoalPart());
  column->addWidget(makePreviewPart());
  column->addWidget(makeQuestion());
  column->addWidget(makePlanButtons());
  column->addWidget(costs_);
  column->addWidget(progress_);
  column->addStretch(1);

  // On a low screen the panel scrolls rather than makes RViz's window higher.
  auto * scroll = new QScrollArea;
  scroll->setFrameShape(QFrame::NoFrame);
  scroll->setWidgetResizable(true);
  scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  scroll->setWidget(content);
  auto * outer = new QVBoxLayout(this);
  outer->setContentsMargins(0, 0, 0, 0);
  outer->setSpacing(0);
  outer->addWidget(scroll);
  // Not in there: Stop must not scroll out of sight.
  outer->addWidget(makeStopButtons());

  connectClient();
  showPreview();
  updateButtons();
}

void PanelWidget::setTask(const QString & task)
{
  if (const int index = task_->findText(task); index >= 0) {
    task_->setCurrentIndex(index);
  }
}

QWidget * PanelWidget::makeGoalPart()
{
  goals_ = named(new GoalList, "goals");
  browse_ = button(
    tr("Browse\u2026"), "browse", tr("Put a picture file of the planner's machine into the library"));
  capture_ = button(
    tr("Capture"), "capture", tr("Put the camera's next picture into the library"));
  refresh_ = button(tr("Refresh"), "refresh", tr("Read the library again"));
  connect(browse_, &QPushButton::clicked, this, &PanelWidget::browse);
  connect(
    capture_, &QPushButton::clicked, this, [this] {
      client_.captureGoal(QDateTime::currentDateTime().toString("'goal'-yyyyMMdd-HHmmss"));
    });
  connect(refresh_, &QPushButton::clicked, this, [this] {client_.listGoals();});
  connect(
    goals_, &GoalList::chosenChanged, this, [this] {
      showPreview();
      updateButtons();
      Q_EMIT settingsChanged();
    });
  auto * part = new QWidget;
  auto * column = new QVBoxLayout(part);
  column->setContentsMargins(0, 0, 0, 0);
  column->addWidget(goals_);
  auto * row = new QHBoxLayout;
  for (QPushButton * each : {browse_, capture_, refresh_}) {
    row->addWidget(each);
  }
  column->addLayout(row);
  return part;
}

QWidget * PanelWidget::makePreviewPart()
{
  preview_ = named(new Preview, "preview");
  view_ = named(new QComboBox, "view");
  view_->addItem(tr("Camera, goal"));
  view_->addItem(tr("Keypoints"));
  view_->addItem(tr("Prediction"));
  view_->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
  opacity_ = named(new QSlider(Qt::Horizontal), "opacity");
  opacity_->setRange(0, 100);
  opacity_->setValue(50);
  opacity_->setToolTip(tr("From the camera's picture to the goal's"));
  connect(
    view_, QOverload<int>::of(&QComboBox::currentIndexChanged), this, &PanelWidget::showPreview);
  connect(
    opacity_, &QSlider::valueChanged, this,
    [this](int percent) {preview_->setGoalOpacity(percent / 100.0);});
  auto * part = new QWidget;
  auto * column = new QVBoxLayout(part);
  column->setContentsMargins(0, 0, 0, 0);
  column->addWidget(preview_);
  auto * row = new QHBoxLayout;
  row->addWidget(view_, 1);
  row->addWidget(opacity_, 1);
  column->addLayout(row);
  return part;
}

QWidget * PanelWidget::makeQuestion()
{
  question_ = named(new QFrame, "question");
  question_->setFrameShape(QFrame::StyledPanel);
  question_text_ = named(new QLabel, "question_text");
  question_text_->setWordWrap(true);
  auto * yes = button(tr("Move"), "accept", tr("Let the robot execute this plan"));
  auto * no = button(tr("Do not move"), "decline", tr("Refuse this plan"));
  connect(yes, &QPushButton::clicked, this, [this] {answer(true);});
  connect(no, &QPushButton::clicked, this, [this] {answer(false);});
  auto * grid = new QGridLayout(question_);
  grid->addWidget(question_text_, 0, 0, 1, 2);
  grid->addWidget(no, 1, 0);
  grid->addWidget(yes, 1, 1);
  question_->hide();
  return question_;
}

QWidget * PanelWidget::makePlanButtons()
{
  task_ = named(new QComboBox, "task");
  task_->addItems({"reach", "grasp", "place", "push"});
  task_->setToolTip(tr("What the plan is for"));
  plan_ = button(tr("Plan"), "plan", tr("Plan from the newest picture; the robot does not move"));
  execute_ = button(
    tr("Execute"), "execute",
    tr("Plan from the newest picture and move, again and again until the task is done"));
  connect(
    task_, QOverload<int>::of(&QComboBox::currentIndexChanged), this,
    &PanelWidget::settingsChanged);
  connect(plan_, &QPushButton::clicked, this, [this] {request(false);});
  connect(execute_, &QPushButton::clicked, this, [this] {request(true);});
  auto * part = new QWidget;
  auto * row = new QHBoxLayout(part);
  row->setContentsMargins(0, 0, 0, 0);
  for (QWidget * each : {static_cast<QWidget *>(task_), static_cast<QWidget *>(plan_),
      static_cast<QWidget *>(execute_)})
  {
    row->addWidget(each, 1);
  }
  return part;
}

QWidget * PanelWidget::makeStopButtons()
{
  stop_ = button(
    tr("Stop"), "stop", tr("Bring the robot to rest, whoever moves it, and cancel the plan"));
  resume_ = button(
    tr("Resume"), "resume", tr("Let motions in again after a stop; nothing moves by it"));
  recover_ = button(
    tr("Recover"), "recover",
    tr("Clear the robot's errors and let motions in again; nothing moves by it"));
  stop_->setStyleSheet(
    "QPushButton {background: #c9302c; color: white; font-weight: bold; border: none;"
    " border-radius: 3px; padding: 5px;} QPushButton:pressed {background: #96231f;}");
  connect(stop_, &QPushButton::clicked, this, [this] {client_.stop();});
  connect(
    resume_, &QPushButton::clicked, this, [this] {
      complain({});
      client_.resume();
    });
  connect(
    recover_, &QPushButton::clicked, this, [this] {
      complain({});
      client_.recover();
    });
  auto * part = new QWidget;
  auto * row = new QHBoxLayout(part);
  row->setContentsMargins(6, 6, 6, 6);
  row->addWidget(recover_, 1);
  row->addWidget(resume_, 1);
  row->addWidget(stop_, 2);
  return part;
}

void PanelWidget::connectClient()
{
  connect(&client_, &PlannerClient::statusChanged, this, &PanelWidget::onStatus);
  connect(&client_, &PlannerClient::goalsListed, goals_, &GoalList::setGoals);
  connect(
    &client_, &PlannerClient::goalStored, this, [this](const QString & name) {
      complain({});
      goals_->choose(name);
      client_.listGoals();
    });
  connect(&client_, &PlannerClient::cameraSeen, preview_, &Preview::setLive);
  connect(
    &client_, &PlannerClient::overlaySeen, this, [this](const QImage & picture) {
      overlay_ = picture;
      showPreview();
    });
  connect(
    &client_, &PlannerClient::predictionSeen, this, [this](const QImage & picture) {
      prediction_ = picture;
      showPreview();
    });
  connect(&client_, &PlannerClient::iterated, this, &PanelWidget::onIteration);
  connect(&client_, &PlannerClient::planned, this, &PanelWidget::onPlan);
  connect(&client_, &PlannerClient::asked, this, &PanelWidget::onQuestion);
  connect(&client_, &PlannerClient::finished, this, &PanelWidget::say);
  connect(&client_, &PlannerClient::failed, this, &PanelWidget::complain);
}

void PanelWidget::browse()
{
  // Not modal for the program: RViz goes on while somebody looks for a file.
  auto * dialog = named(new QFileDialog(this, tr("Goal picture")), "file_dialog");
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  dialog->setFileMode(QFileDialog::ExistingFile);
  dialog->setNameFilter(tr("Pictures (*.png *.jpg *.jpeg *.bmp *.webp)"));
  connect(
    dialog, &QFileDialog::fileSelected, this,
    [this](const QString & path) {client_.importGoal(goalNameOf(path), path);});
  dialog->open();
}

void PanelWidget::request(bool execute)
{
  complain({});
  costs_->clear();
  say(tr("asked"));
  PlanRequest wanted;
  wanted.goal = goals_->chosen();
  wanted.task = task_->currentText();
  wanted.execute = execute;
  client_.plan(wanted);
}

void PanelWidget::answer(bool accept)
{
  client_.confirm(plan_id_, accept);
  onQuestion(Question{});
}

void PanelWidget::onStatus(const PlannerStatus & status)
{
  const bool is_back = state_ == PlannerState::kGone && status.state != PlannerState::kGone;
  state_ = status.state;
  status_->show(status);
  if (is_back) {
    client_.listGoals();
  }
  if (state_ == PlannerState::kGone) {
    onQuestion(Question{});
  }
  updateButtons();
}

void PanelWidget::onIteration(const Iteration & iteration)
{
  if (iteration.iteration == 0) {
    costs_->clear();
  }
  costs_->append(iteration.best_cost);
  say(
    tr("plan %1, iteration %2, %3 s").arg(iteration.step + 1).arg(iteration.iteration + 1)
    .arg(iteration.elapsed, 0, 'f', 1));
}

void PanelWidget::onPlan(const PlanSummary & plan)
{
  costs_->setCosts(plan.costs);
  say(
    tr("plan %1 for %2%3: %4, %5 s").arg(plan.replan + 1).arg(plan.task)
    .arg(plan.goal.isEmpty() ? QString() : tr(" to %1").arg(plan.goal))
    .arg(plan.waypoints == 1 ? tr("1 waypoint") : tr("%1 waypoints").arg(plan.waypoints))
    .arg(plan.planning_time, 0, 'f', 1));
}

void PanelWidget::onQuestion(const Question & question)
{
  plan_id_ = question.plan_id;
  question_->setVisible(!plan_id_.isEmpty());
  question_text_->setText(
    tr("<b>May the robot move?</b> A plan for %1 waits: %2, %3 s left.")
    .arg(question.task.toHtmlEscaped())
    .arg(question.waypoints == 1 ? tr("1 waypoint") : tr("%1 waypoints").arg(question.waypoints))
    .arg(question.seconds_left, 0, 'f', 0));
}

void PanelWidget::say(const QString & message)
{
  progress_->setText(message);
}

void PanelWidget::complain(const QString & message)
{
  const QString time = QTime::currentTime().toString("HH:mm:ss");
  error_->setText(message.isEmpty() ? QString() : tr("%1  %2").arg(time, message));
  error_->setVisible(!message.isEmpty());
  // Readable on light and on dark ground.
  error_->setStyleSheet(
    "background: rgba(217, 69, 61, 50); border: 1px solid #d9453d; border-radius: 3px;"
    " padding: 3px;");
}

void PanelWidget::showPreview()
{
  preview_->setGoal(goals_->chosenPicture());
  const int view = view_->currentIndex();
  opacity_->setEnabled(view == kCameraAndGoal);
  preview_->setOnly(
    view != kCameraAndGoal, view == kKeypoints ? overlay_ : prediction_,
    view == kKeypoints ? tr("no plan yet") :
    tr("no prediction: no plan yet, or a model without decoder"));
}

void PanelWidget::updateButtons()
{
  const bool is_here = state_ != PlannerState::kGone;
  const bool can_plan = state_ == PlannerState::kReady && !goals_->chosen().isEmpty();
  for (QWidget * each : {static_cast<QWidget *>(goals_), static_cast<QWidget *>(browse_),
      static_cast<QWidget *>(capture_), static_cast<QWidget *>(refresh_)})
  {
    each->setEnabled(is_here);
  }
  plan_->setEnabled(can_plan);
  execute_->setEnabled(can_plan);
  for (QPushButton * each : {resume_, recover_}) {
    each->setEnabled(state_ == PlannerState::kStopped);
  }
  // Stop is always there: it may reach the robot where the planner is gone.
}

}  // namespace dexwm_rviz
