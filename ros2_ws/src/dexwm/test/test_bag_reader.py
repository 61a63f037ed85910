"""Recordings of every kind that the standard recorder makes, whole, cut off and damaged."""

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from dexwm.bag.bag_reader import BagError, BagReader
from dexwm.bag.bag_writer import BagWriter

from .run_writer import BEGIN_NS, IMAGE, STATE, STORE, image, joint_state, write_messages

CAMERA, JOINTS = '/camera/color/image_raw', '/joint_states'


def pictures(count=40):
    # Random pixels do not compress: the recording has several chunks of a mebibyte.
    return np.random.default_rng(0).integers(0, 256, (count, 120, 160, 3), dtype=np.uint8)


def messages(count=40):
    for number, picture in enumerate(pictures(count)):
        yield CAMERA, image(picture, number)
        yield JOINTS, joint_state(np.full(23, number), number)


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return write_messages(tmp_path_factory.mktemp('own') / 'bag', list(messages()), {'a': 'b'})


def write_standard(path, storage, mode, order=1):
    """As the standard recorder does, with topics in either order."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        kinds = {CAMERA: IMAGE, JOINTS: STATE}
        connections = {
            topic: writer.add_connection(topic, kind, typestore=STORE)
            for topic, kind in list(kinds.items())[::order]
        }
        for number, (topic, message) in enumerate(messages()):
            data = STORE.serialize_cdr(message, kinds[topic])
            writer.write(connections[topic], BEGIN_NS + number * 10**7, data)
    return path


def check(path):
    reader = BagReader(path)
    assert reader.topics == {CAMERA: IMAGE, JOINTS: STATE}
    read = list(reader.messages())
    assert [m.topic for m in read] == [CAMERA, JOINTS] * 40
    assert [m.stamp_ns for m in read] == [BEGIN_NS + i * 10**7 for i in range(80)]
    for number, picture in enumerate(pictures()):
        assert read[2 * number].content.data.tobytes() == picture.tobytes()
        assert read[2 * number + 1].content.position[0] == number
    assert reader.problems == []


def test_what_was_written_is_read(bag):
    check(bag)
    only = list(BagReader(bag).messages({JOINTS}))
    assert len(only) == 40 and {m.topic for m in only} == {JOINTS}


@pytest.mark.parametrize('storage', list(StoragePlugin))
@pytest.mark.parametrize('mode', ['NONE', 'FILE', 'MESSAGE', 'STORAGE'])
def test_recordings_of_the_standard_recorder(storage, mode, tmp_path):
    if mode == 'STORAGE' and storage is StoragePlugin.SQLITE3:
        pytest.skip('SQLite has no compression of its own')
    check(write_standard(tmp_path / 'bag', storage, CompressionMode[mode], order=-1))


@pytest.mark.parametrize('storage', list(StoragePlugin))
def test_a_file_alone_and_a_folder_without_metadata(storage, tmp_path):
    path = write_standard(tmp_path / 'bag', storage, CompressionMode.NONE)
    (path / 'metadata.yaml').unlink()
    (file,) = path.iterdir()
    check(file)
    reader = BagReader(path)
    assert 'no metadata.yaml' in reader.problems[0] and len(list(reader.messages())) == 80


@pytest.mark.parametrize('part', [0.5, 0.9, 0.999])
def test_a_recording_that_was_cut_off_gives_what_it_holds(bag, part, tmp_path):
    (file,) = bag.glob('*.mcap')
    content = file.read_bytes()
    cut = tmp_path / 'cut.mcap'
    cut.write_bytes(content[: int(part * len(content))])
    reader = BagReader(cut)
    read = list(reader.messages())
    whole = list(BagReader(bag).messages())
    # The last chunk is lost, a mebibyte of 2.3; none of what is read is another message.
    assert len(read) >= (part - 0.45) * len(whole)
    for mine, true in zip(read, whole, strict=False):
        assert (mine.topic, mine.stamp_ns) == (true.topic, true.stamp_ns)
        assert mine.content.__class__.__name__ == true.content.__class__.__name__
        key = 'data' if mine.topic == CAMERA else 'position'
        np.testing.assert_array_equal(getattr(mine.content, key), getattr(true.content, key))
    assert 'was cut off' in reader.problems[0]
    assert f'ends at {read[-1].stamp_ns * 1e-9:.2f} s' in reader.problems[1]


def test_a_recorder_that_was_killed_leaves_what_it_wrote(tmp_path):
    writer = BagWriter(tmp_path / 'bag')
    definition, _ = STORE.generate_msgdef(IMAGE, ros_version=2)
    writer.add_topic(CAMERA, IMAGE, definition, STORE.hash_rihs01(IMAGE))
    for number, picture in enumerate(pictures()):
        writer.write(CAMERA, BEGIN_NS + number, bytes(STORE.serialize_cdr(image(picture), IMAGE)))
    reader = BagReader(tmp_path / 'bag')
    assert 0 < len(list(reader.messages())) < 40
    assert 'no metadata.yaml' in reader.problems[0] and 'cut off' in reader.problems[1]
    writer.close()
    assert len(list(BagReader(tmp_path / 'bag').messages())) == 40


def test_a_damaged_middle_gives_what_comes_before(bag, tmp_path):
    (file,) = bag.glob('*.mcap')
    content = bytearray(file.read_bytes())
    middle = len(content) * 2 // 3
    # More than a block of Zstandard, so that a header of one is hit.
    content[middle : middle + 200_000] = b'\xff' * 200_000
    damaged = tmp_path / 'damaged.mcap'
    damaged.write_bytes(content)
    reader = BagReader(damaged)
    read = list(reader.messages())
    assert 0 < len(read) < 80
    assert any('damaged' in problem for problem in reader.problems)


def test_what_is_no_recording_is_refused(bag, tmp_path):
    with pytest.raises(BagError, match='there is no recording'):
        BagReader(tmp_path / 'nothing')
    with pytest.raises(BagError, match='is no recording'):
        BagReader(tmp_path)
    text = tmp_path / 'text.db3'
    text.write_text('no database')
    with pytest.raises(BagError, match='cannot be read'):
        BagReader(text)
    with pytest.raises(BagError, match='exists'):
        BagWriter(bag)
    with BagWriter(tmp_path / 'new') as writer, pytest.raises(BagError, match='was not added'):
        writer.write('/a', 0, b'')
