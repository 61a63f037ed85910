// The panel's widgets, offscreen, against a planner that answers when told to.
#include <QApplication>
#include <QComboBox>
#include <QFileDialog>
#include <QLabel>
#include <QPushButton>
#include <QScrollArea>
#include <QScrollBar>
#include <QSlider>
#include <QTemporaryDir>
#include <QtTest>

#include <cmath>
#include <limits>
#include <memory>
#include <thread>

#include "canned_client.hpp"
#include "panel/panel_widget.hpp"

using namespace dexwm_rviz;  // NOLINT(build/namespaces)

namespace
{

QImage plain(int width, int height, QColor colour)
{
  QImage image(width, height, QImage::Format_RGB888);
  image.fill(colour);
  return image;
}

GoalEntry entry(const QString & name, QColor colour = Qt::blue)
{
  return {name, QDateTime::currentDateTime(), plain(192, 110, colour)};
}

int distance(QRgb a, QColor b)
{
  return std::abs(qRed(a) - b.red()) + std::abs(qGreen(a) - b.green()) +
         std::abs(qBlue(a) - b.blue());
}

}  // namespace

class PanelTest : public QObject
{
  Q_OBJECT

private:
  std::unique_ptr<CannedClient> client;
  std::unique_ptr<PanelWidget> panel;

  template<typename Widget>
  Widget * find(const char * name)
  {
    auto * found = panel->findChild<Widget *>(name);
    if (!found) {
      qFatal("the panel has no %s", name);
    }
    return found;
  }
  QPushButton * button(const char * name) {return find<QPushButton>(name);}
  void press(const char * name) {QTest::mouseClick(button(name), Qt::LeftButton);}
  QStringList enabled()
  {
    QStringList names;
    for (const char * name :
      {"browse", "capture", "plan", "execute", "stop", "resume", "recover"})
    {
      if (button(name)->isEnabled()) {
        names << name;
      }
    }
    return names;
  }
  void beReadyWithGoals()
  {
    client->be(PlannerState::kReady);
    Q_EMIT client->goalsListed({entry("cup"), entry("box", Qt::red)});
    find<GoalList>("goals")->choose("box");
    client->calls.clear();
  }

private Q_SLOTS:
  void init()
  {
    client = std::make_unique<CannedClient>();
    panel = std::make_unique<PanelWidget>(*client);
    panel->resize(340, 900);
    panel->show();
    QVERIFY(QTest::qWaitForWindowExposed(panel.get()));
  }
  void cleanup()
  {
    panel.reset();
    client.reset();
  }

  void withoutPlannerOnlyStopIsThere()
  {
    QCOMPARE(find<StatusLine>("status")->text(), QString("planner is gone"));
    QCOMPARE(enabled(), QStringList{"stop"});
    press("stop");
    QCOMPARE(client->calls, QStringList{"stop"});
  }

  void buttonsFollowTheState_data()
  {
    QTest::addColumn<int>("state");
    QTest::addColumn<QString>("word");
    QTest::addColumn<QStringList>("buttons");
    const QStringList all{"browse", "capture", "stop"};
    QTest::newRow("ready") << int(PlannerState::kReady) << "ready"
                           << QStringList{"browse", "capture", "plan", "execute", "stop"};
    QTest::newRow("not ready") << int(PlannerState::kNotReady) << "not ready" << all;
    QTest::newRow("planning") << int(PlannerState::kPlanning) << "planning" << all;
    QTest::newRow("executing") << int(PlannerState::kExecuting) << "executing" << all;
    QTest::newRow("stopped") << int(PlannerState::kStopped) << "stopped"
                             << (all + QStringList{"resume", "recover"});
    QTest::newRow("recovering") << int(PlannerState::kRecovering) << "recovering" << all;
    QTest::newRow("gone") << int(PlannerState::kGone) << "planner is gone" << QStringList{"stop"};
  }
  void buttonsFollowTheState()
  {
    beReadyWithGoals();
    QFETCH(int, state);
    client->be(PlannerState(state), "because");
    QTEST(find<StatusLine>("status")->text(), "word");
    QCOMPARE(find<StatusLine>("status")->detail(), QString("because"));
    QTEST(enabled(), "buttons");
  }

  void aWarningIsShownAndKeepsNobodyFromPlanning()
  {
    beReadyWithGoals();
    const QStringList before = enabled();
    auto * warning = find<QLabel>("warning");
    QVERIFY(!warning->isVisible());
    client->be(PlannerState::kReady, {}, "the calibration is <b>31 days</b> old");
    QVERIFY(warning->isVisible());
    QCOMPARE(find<StatusLine>("status")->warning(), warning->text());
    QCOMPARE(warning->text(), QString("the calibration is <b>31 days</b> old"));
    QCOMPARE(warning->textFormat(), Qt::PlainText);
    QCOMPARE(find<StatusLine>("status")->text(), QString("ready"));
    QVERIFY(before.contains("plan") && before.contains("execute"));
    QCOMPARE(enabled(), before);
    press("execute");
    QCOMPARE(client->calls, QStringList{"reach box and move"});
    client->be(PlannerState::kReady);
    QVERIFY(!warning->isVisible());
  }

  void aPlannerThatComesBackIsAskedForItsGoals()
  {
    client->be(PlannerState::kReady);
    QCOMPARE(client->calls, QStringList{"list"});
    client->be(PlannerState::kPlanning);
    QCOMPARE(client->calls.size(), 1);
    client->be(PlannerState::kGone);
    client->be(PlannerState::kNotReady);
    QCOMPARE(client->calls, (QStringList{"list", "list"}));
  }

  void afterAStopMotionsAreLetInAgainWithOrWithoutARecovery()
  {
    client->be(PlannerState::kStopped, "stopped by a person");
    client->calls.clear();
    Q_EMIT client->failed("an error of before");
    press("resume");
    QVERIFY(!find<QLabel>("error")->isVisible());
    press("recover");
    QCOMPARE(client->calls, (QStringList{"resume", "recover"}));
  }

  void withoutAGoalNothingIsPlanned()
  {
    client->be(PlannerState::kReady);
    QVERIFY(!button("plan")->isEnabled());
    Q_EMIT client->goalsListed({entry("cup")});
    QVERIFY(!button("plan")->isEnabled());
    panel->setGoal("cup");
    QVERIFY(button("plan")->isEnabled());
  }

  void plansAndExecutesWhatIsChosen()
  {
    beReadyWithGoals();
    press("plan");
    panel->setTask("grasp");
    press("execute");
    QCOMPARE(client->calls, (QStringList{"reach box", "grasp box and move"}));
  }

  void theChosenGoalStaysChosenInANewList()
  {
    beReadyWithGoals();
    Q_EMIT client->goalsListed({entry("new"), entry("box"), entry("cup")});
    QCOMPARE(panel->goal(), QString("box"));
    Q_EMIT client->goalsListed({entry("new")});
    QCOMPARE(panel->goal(), QString());
    QVERIFY(!button("plan")->isEnabled());
  }

  void aCapturedGoalIsChosenWhenItIsListed()
  {
    beReadyWithGoals();
    press("capture");
    QCOMPARE(client->calls.size(), 1);
    const QString name = client->calls.first().mid(8);
    static const QRegularExpression possible("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$");
    QVERIFY2(possible.match(name).hasMatch(), qPrintable(name));
    Q_EMIT client->goalStored(name);
    QCOMPARE(client->calls.last(), QString("list"));
    Q_EMIT client->goalsListed({entry(name), entry("box")});
    QCOMPARE(panel->goal(), name);
  }

  void browsingImportsTheFileWithoutBlocking()
  {
    QTemporaryDir folder;
    const QString path = folder.filePath("my goal.v2.png");
    QVERIFY(plain(8, 8, Qt::red).save(path));
    beReadyWithGoals();
    press("browse");  // would not come back if the dialog had a loop of its own
    auto * dialog = find<QFileDialog>("file_dialog");
    Q_EMIT dialog->fileSelected(path);
    QCOMPARE(client->calls, QStringList{"import my_goal.v2 " + path});
    dialog->close();
  }

  void namesOfGoals_data()
  {
    QTest::addColumn<QString>("path");
    QTest::addColumn<QString>("name");
    QTest::newRow("plain") << "/a/b/cup-1.png" << "cup-1";
    QTest::newRow("start") << "/a/.__cup.png" << "cup";
    QTest::newRow("other letters") << "Stra\u00dfe 1.jpg" << "Stra_e_1";
    QTest::newRow("nothing left") << "/a/\u4e2d.png" << "goal";
    QTest::newRow("long") << QString(80, 'x') + ".png" << QString(64, 'x');
  }
  void namesOfGoals()
  {
    QFETCH(QString, path);
    QTEST(goalNameOf(path), "name");
  }

  void aQuestionIsAnsweredOnceAndForItsPlan()
  {
    beReadyWithGoals();
    auto * frame = find<QFrame>("question");
    QVERIFY(!frame->isVisible());
    Q_EMIT client->asked({"p1", "grasp", 3, 20.0});
    QVERIFY(frame->isVisible());
    Q_EMIT client->asked({"p2", "grasp", 3, 20.0});
    press("accept");
    QCOMPARE(client->calls, QStringList{"accept p2"});
    QVERIFY(!frame->isVisible());
    Q_EMIT client->asked({"p3", "grasp", 1, 20.0});
    press("decline");
    QCOMPARE(client->calls.last(), QString("decline p3"));
    Q_EMIT client->asked({"p4", "grasp", 1, 20.0});
    client->be(PlannerState::kGone);
    QVERIFY(!frame->isVisible());
  }

  void costsFollowTheIterations()
  {
    beReadyWithGoals();
    auto * costs = find<CostPlot>("costs");
    for (int i = 0; i < 3; ++i) {
      Q_EMIT client->iterated({0, i, 3.0 - i, 0.5 * i});
    }
    QCOMPARE(costs->costs(), (QVector<double>{3.0, 2.0, 1.0}));
    Q_EMIT client->iterated({1, 0, 5.0, 0.1});
    QCOMPARE(costs->costs(), QVector<double>{5.0});
    const double nan = std::numeric_limits<double>::quiet_NaN();
    Q_EMIT client->planned({"grasp", "box", 1, 3, {4.0, nan, 2.0}, 1.5});
    QCOMPARE(costs->costs(), (QVector<double>{4.0, 2.0}));
    QVERIFY(find<QLabel>("progress")->text().contains("plan 2 for grasp to box: 3 waypoints"));
  }

  void theCostCurveFalls()
  {
    CostPlot plot;
    plot.resize(200, 100);
    plot.setCosts({4.0, 2.0, 1.0, 1.0});
    const QImage image = plot.grab().toImage();
    const QColor colour = plot.palette().color(QPalette::Highlight);
    const auto height_at = [&](int column) {
        for (int row = 0; row < image.height(); ++row) {
          if (distance(image.pixel(column, row), colour) < 60) {
            return row;
          }
        }
        return -1;
      };
    const int first = height_at(20), last = height_at(image.width() - 20);
    QVERIFY2(first >= 0 && last > first + 20, qPrintable(QString("%1 %2").arg(first).arg(last)));
  }

  void thePreviewBlendsCameraAndGoal()
  {
    beReadyWithGoals();
    panel->setGoal("box");
    auto * preview = find<Preview>("preview");
    Q_EMIT client->cameraSeen(plain(640, 480, Qt::green));
    const auto middle = [&] {
        const QImage image = preview->grab().toImage();
        return image.pixel(image.width() / 2, image.height() / 2);
      };
    find<QSlider>("opacity")->setValue(0);
    QVERIFY(distance(middle(), Qt::green) < 6);
    find<QSlider>("opacity")->setValue(100);
    QVERIFY(distance(middle(), Qt::red) < 6);
    find<QSlider>("opacity")->setValue(50);
    QVERIFY(distance(middle(), QColor(128, 128, 0)) < 12);
    find<QComboBox>("view")->setCurrentIndex(1);
    Q_EMIT client->overlaySeen(plain(64, 48, Qt::yellow));
    QVERIFY(distance(middle(), Qt::yellow) < 6);
  }

  void theCameraIsCutAsTheModelCutsIt_data()
  {
    QTest::addColumn<QSize>("picture");
    QTest::addColumn<QSize>("shape");
    QTest::addColumn<QRect>("kept");
    // A wide picture loses columns, a high one rows, both out of the middle.
    QTest::newRow("wide") << QSize(400, 100) << QSize(100, 100) << QRect(150, 0, 100, 100);
    QTest::newRow("high") << QSize(100, 400) << QSize(50, 100) << QRect(0, 100, 100, 200);
    QTest::newRow("paper") << QSize(960, 600) << QSize(392, 224) << QRect(0, 25, 960, 549);
    QTest::newRow("same") << QSize(196, 112) << QSize(392, 224) << QRect(0, 0, 196, 112);
  }
  void theCameraIsCutAsTheModelCutsIt()
  {
    QFETCH(QSize, picture);
    QFETCH(QRect, kept);
    QImage image(picture, QImage::Format_RGB888);
    for (int y = 0; y < image.height(); ++y) {
      for (int x = 0; x < image.width(); ++x) {
        image.setPixel(x, y, qRgb(x % 256, y % 256, x / 256 * 16 + y / 256));
      }
    }
    QFETCH(QSize, shape);
    const QImage cut = cutToShape(image, shape);
    QCOMPARE(cut, image.copy(kept));
  }

  void errorsStayUntilTheNextRequest()
  {
    beReadyWithGoals();
    auto * error = find<QLabel>("error");
    QVERIFY(!error->isVisible());
    Q_EMIT client->failed("the picture is <b>too old</b>");
    QVERIFY(error->isVisible());
    QVERIFY(error->text().endsWith("the picture is <b>too old</b>"));
    client->be(PlannerState::kGone);
    client->be(PlannerState::kReady);
    QVERIFY(error->isVisible());
    press("plan");
    QVERIFY(!error->isVisible());
  }

  void answersOfOtherThreadsArriveInThePanelsOwn()
  {
    beReadyWithGoals();
    std::thread other([this] {
        client->be(PlannerState::kNotReady, "from afar");
        Q_EMIT client->goalsListed({entry("far")});
        Q_EMIT client->planned({"reach", "far", 0, 1, {2.0}, 0.1});
        Q_EMIT client->iterated({0, 1, 7.0, 0.0});
        Q_EMIT client->asked({"p", "reach", 1, 1.0});
        Q_EMIT client->cameraSeen(plain(4, 4, Qt::red));
      });
    other.join();
    QCOMPARE(find<StatusLine>("status")->detail(), QString());  // nothing happened in there
    QTRY_VERIFY(find<QFrame>("question")->isVisible());
    QCOMPARE(find<StatusLine>("status")->detail(), QString("from afar"));
    QCOMPARE(find<GoalList>("goals")->count(), 1);
    QCOMPARE(find<CostPlot>("costs")->costs(), (QVector<double>{2.0, 7.0}));
  }

  void settingsAreKeptAndTold()
  {
    QSignalSpy told(panel.get(), &PanelWidget::settingsChanged);
    panel->setTask("place");
    QCOMPARE(told.count(), 1);
    QCOMPARE(panel->task(), QString("place"));
    panel->setTask("fly");
    QCOMPARE(panel->task(), QString("place"));
    panel->setGoal("late");  // known before it is listed
    QCOMPARE(panel->goal(), QString());
    Q_EMIT client->goalsListed({entry("early"), entry("late")});
    QCOMPARE(panel->goal(), QString("late"));
  }

  void stopIsInSightWhateverIsScrolled()
  {
    beReadyWithGoals();
    client->be(PlannerState::kStopped, QString("a long reason ").repeated(20), "a warning");
    Q_EMIT client->failed(QString("a long message ").repeated(20));
    Q_EMIT client->asked({"p", "grasp", 3, 20.0});
    panel->resize(300, 200);
    QCoreApplication::processEvents();
    QVERIFY2(panel->height() <= 200, qPrintable(QString::number(panel->height())));
    QScrollBar * bar = panel->findChild<QScrollArea *>()->verticalScrollBar();
    QVERIFY(bar->maximum() > 0);
    QPushButton * stop = button("stop");
    for (const int place : {bar->minimum(), bar->maximum()}) {
      bar->setValue(place);
      QCoreApplication::processEvents();
      QCOMPARE(stop->visibleRegion(), QRegion(stop->rect()));
    }
    press("stop");
    QCOMPARE(client->calls, QStringList{"stop"});
  }

  void fitsANarrowDock()
  {
    beReadyWithGoals();
    Q_EMIT client->failed(QString("a long message ").repeated(20));
    QVERIFY2(
      panel->minimumSizeHint().width() <= 300,
      qPrintable(QString::number(panel->minimumSizeHint().width())));
    panel->resize(300, 700);
    QCoreApplication::processEvents();
    for (QPushButton * each : panel->findChildren<QPushButton *>()) {
      if (each->isVisible()) {
        const QRect place(each->mapTo(panel.get(), QPoint(0, 0)), each->size());
        QVERIFY2(place.right() <= 300 && place.left() >= 0, qPrintable(each->objectName()));
      }
    }
  }
};

QTEST_MAIN(PanelTest)
#include "panel_test.moc"
