"""What the node notices of its transport, and how it sets up its memory."""

import os
from pathlib import Path
import pwd
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace
from xml.etree import ElementTree

from cnn_perception.ros import transport
from cnn_perception.ros.camera import Camera, image_topic
from cnn_perception.ros.diagnostics import camera_status, CameraStatistics
from cnn_perception.ros.elsewhere import elsewhere
from cnn_perception.ros.memory import keep_image_blocks
from cnn_perception.ros.transport import (
    fast_dds_profile, image_environment, little_memory, other_users, profile_path,
    profile_variables)
from cnn_perception.ros.transport_watch import TransportWatch
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from ros_harness import BEST_EFFORT, ROOT
from sensor_msgs.msg import CompressedImage, Image

MS = 10 ** 6


def watch(stamps, delay, missing=0, lost=0):
    seen = TransportWatch()
    for stamp in stamps:
        seen.arrived(int(stamp), int(stamp) + delay, int(stamp), missing, lost)
    return seen


def test_a_good_camera_gives_no_complaint():
    jitter = np.random.default_rng(0).normal(0, 3 * MS, 90)
    stamps = np.arange(90) * 33 * MS + jitter
    assert watch(stamps, 4 * MS).complaint(1) == ''


def test_lost_images_are_told_once_with_the_remedy():
    seen = watch(np.arange(60) * 66 * MS, 4 * MS, missing=1, lost=1)
    complaint = seen.complaint(1)
    assert re.match(r'50 % of the images do not arrive', complaint)
    assert 'config/fastdds.xml' in complaint
    assert seen.complaint(1) == ''


def stamped(steps, jitter=0.0):
    stamps = np.cumsum(np.asarray(steps, float)) * 33 * MS
    return stamps + np.random.default_rng(1).normal(0, 33 * MS * jitter, len(stamps))


def watch_gaps(stamps, waited=True, middleware='rmw_cyclonedds_cpp'):
    """Watch a camera that does not count its images."""
    seen = TransportWatch(middleware)
    for stamp in stamps:
        seen.arrived(int(stamp), int(stamp) + 4 * MS, int(stamp), waited=waited)
    return seen.complaint(1)


UNEVEN = np.random.default_rng(0).choice([1, 1, 2, 3], 90)


@pytest.mark.parametrize(('middleware', 'remedy'), [
    ('rmw_cyclonedds_cpp', 'config/cyclonedds.xml'), ('rmw_fastrtps_cpp', 'config/fastdds.xml'),
    ('rmw_zenoh_cpp', 'transport/shared_memory'),
    ('rmw_fastrtps_dynamic_cpp', 'config/fastdds.xml'),
    ('rmw_other_cpp', '; use image_transport compressed')])
def test_losses_without_numbers_show_in_the_gaps(middleware, remedy):
    complaint = watch_gaps(stamped(UNEVEN, 0.02), middleware=middleware)
    assert re.match(r'4\d % of the images seem not to arrive, by the gaps', complaint)
    assert remedy in complaint


@pytest.mark.parametrize(('stamps', 'waited'), [
    (stamped(UNEVEN), False),  # replaced while the network was busy
    (stamped([1] * 90, 0.05), True),
    (stamped([1] * 45 + [2] * 45), True),  # it became slower
    (stamped([1] * 45 + [900] + [1] * 44), True),  # it paused
    # It paused, and lost a few: a pause counts for ten.
    (stamped([*[1] * 20, 2, *[1] * 15, 2, *[1] * 10, 900, *[1] * 15, 2, *[1] * 15, 2, 1, 1, 1]),
     True),
    (stamped(np.random.default_rng(0).uniform(1, 3, 90)), True),  # it sends when it likes
    (stamped([*UNEVEN[:20]]), True),
    (np.concatenate([stamped(UNEVEN[:45]) + 1e12, stamped(UNEVEN[45:])]), True),  # played again
    (np.zeros(90), True)])
def test_gaps_that_are_no_losses(stamps, waited):
    assert 'seem not to arrive' not in watch_gaps(stamps, waited)


def test_images_replaced_in_a_busy_node_are_no_trouble_of_the_transport():
    assert watch(np.arange(60) * 99 * MS, 4 * MS, missing=2).complaint(1) == ''


def test_late_images_are_told():
    assert re.match('images arrive 400 ms after they were published, 12 periods late',
                    watch(np.arange(60) * 66 * MS, 400 * MS, missing=1).complaint(1))
    assert re.match('images arrive 400 ms after they were published, 12 periods late',
                    watch(np.arange(60) * 33 * MS, 400 * MS).complaint(1))


def test_a_camera_that_takes_its_time_before_it_publishes_is_not_late():
    seen = TransportWatch()
    for stamp in np.arange(60) * 33 * MS:
        seen.arrived(int(stamp), int(stamp) + 400 * MS, int(stamp) + 396 * MS)
    assert seen.complaint(1) == ''


def test_without_the_time_of_publishing_the_stamp_tells():
    seen = TransportWatch()
    for stamp in np.arange(60) * 33 * MS:
        seen.arrived(int(stamp), int(stamp) + 400 * MS)
    assert 'images arrive 400 ms after' in seen.complaint(1)


@pytest.mark.parametrize('pace', [0.1, 1.0, 5.0])
def test_stamps_of_a_simulation_are_not_compared_with_clocks(pace, monkeypatch):
    seen = TransportWatch()
    for number in range(60):
        arrival = int((86400 * 1000 + 330 * number) * MS)
        seen.arrived(int(pace * 330 * number * MS), arrival, arrival - 4 * MS, simulated=True)
    assert seen.complaint(1) == ''
    assert seen.period() == 330 * MS
    # Silence is that of the clock on the wall, whatever the pace of the simulation.
    seen = TransportWatch()
    for number in range(3):
        seen.arrived(int(pace * 6000 * number * MS), int(6000 * number * MS), simulated=True)
    now = time.monotonic()
    monkeypatch.setattr('time.monotonic', lambda: now + 17.0)
    assert seen.complaint(1) == ''
    monkeypatch.setattr('time.monotonic', lambda: now + 19.0)
    assert '3 image(s) arrived, then none for 19 s' in seen.complaint(1)


def test_slow_cameras_and_still_stamps_are_no_trouble():
    assert watch(np.arange(60) * 1000 * MS, 300 * MS).complaint(1) == ''
    assert watch(np.zeros(60), 0).complaint(1) == ''
    assert watch(np.arange(10) * 33 * MS, 400 * MS).complaint(1) == ''


def test_silence_of_a_publisher_that_is_there(monkeypatch):
    seen = TransportWatch()
    assert seen.complaint(0) == ''
    now = time.monotonic()
    assert seen.complaint(1) == ''
    # As slow as a picture every ten seconds.
    monkeypatch.setattr('time.monotonic', lambda: now + 9.5)
    assert seen.complaint(1) == ''
    monkeypatch.setattr('time.monotonic', lambda: now + 10.5)
    assert re.match(r'1 publisher\(s\) of this topic, but no image', seen.complaint(1))
    assert 'qos.reliability' in TransportWatch().complaint(1, incompatible=True)


def test_memory_of_another_user_is_told_of(monkeypatch, tmp_path):
    monkeypatch.setattr(transport, 'SHARED_MEMORY', str(tmp_path))
    for name in ('fastrtps_port7411', 'other'):
        (tmp_path / name).touch()
    assert other_users() == ''
    seen, of_another = TransportWatch(), TransportWatch('rmw_cyclonedds_cpp')
    for watching in (seen, of_another):
        watching.complaint(1)
    number, owner = os.getuid(), Path.owner

    def owner_of(file):
        if file.name == 'fastrtps_1234':
            raise KeyError(number)  # as for a user without a name
        return owner(file)

    (tmp_path / 'fastrtps_1234').touch()
    monkeypatch.setattr(Path, 'owner', owner_of)
    monkeypatch.setattr(os, 'getuid', lambda: number + 1)
    assert other_users() == f'{pwd.getpwuid(number).pw_name} or user {number}'
    now = time.monotonic()
    monkeypatch.setattr('time.monotonic', lambda: now + 10.5)
    assert f'where the camera runs as {other_users()}, start both as one user; else start the ' \
        'camera with a larger shared-memory segment' in seen.complaint(1)
    assert 'as one user' not in of_another.complaint(1)


def test_a_few_losses_and_short_delays_are_none():
    assert watch(np.arange(90) * 5 * MS, 20 * MS).complaint(1) == ''
    for images, missing in ((54, 6), (4, 5)):
        seen = watch(np.arange(images) * 33 * MS, 4 * MS)
        seen.arrived(images * 33 * MS, images * 33 * MS + 4 * MS, 0, missing, missing)
        assert seen.complaint(1) == ''


def test_the_pace_is_that_of_what_was_sent():
    assert watch(np.arange(60) * 66 * MS, 0, missing=1).period() == 33 * MS


def test_a_topic_that_nobody_publishes_is_told_once(monkeypatch):
    seen, now = TransportWatch(), time.monotonic()
    monkeypatch.setattr(time, 'monotonic', lambda: now)
    assert seen.unpublished(lambda: 'nor') == ''
    now += 10.5
    assert seen.unpublished(lambda: 'nor') == 'nobody publishes it, nor'
    assert seen.unpublished(lambda: 'nor') == ''
    heard = TransportWatch()
    heard.arrived(stamp=1, arrival=2)
    now += 30.0
    assert heard.unpublished(lambda: 'nor') == ''


def test_the_node_says_where_there_are_images(start, namespace, observer):
    process = start('classifier', namespace, architecture='linear', weights='none',
                    diagnostics_period=0.2, cameras='[front, back]')
    publisher = observer.publisher(Image, 'camera/image')
    observer.wait_for_state('active')
    for name in ('front', 'back'):
        process.wait_for_log(
            f'{name}/image: nobody publishes it, but there are images on {publisher.topic_name}: '
            f'remap {namespace}/{name}/image', timeout=30.0)


@pytest.mark.parametrize(('compressed', 'published', 'topic', 'told'), [
    (False, Image, 'camera/image', 'but there are images on {}: set image_topic'),
    (True, CompressedImage, 'camera/image/compressed',
     'but there are images on {}: set image_topic'),
    (True, Image, 'image', 'there are raw images on {}: set image_transport to raw'),
    (False, CompressedImage, 'image/compressed',
     'there are compressed images on {}: set image_transport to compressed')])
def test_the_setting_that_takes_the_images_there_are_is_named(namespace, observer, compressed,
                                                              published, topic, told):
    publisher = observer.publisher(published, topic)
    camera = Camera(observer.node, '', image_topic(observer.node, '', 'image', compressed),
                    compressed)
    told = told.format(publisher.topic_name.removesuffix('/compressed'))
    assert observer.wait_for(lambda: told in elsewhere(observer.node, camera), timeout=10.0), (
        elsewhere(observer.node, camera))


@pytest.mark.parametrize('pause', [lambda seen: seen.complaint(0), TransportWatch.resume])
def test_silence_is_counted_anew(monkeypatch, pause):
    now = 100.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    seen = TransportWatch()
    assert seen.complaint(1) == ''
    now += 60.0
    pause(seen)
    assert seen.complaint(1) == ''
    now += 10.5
    assert 'no image has arrived: none was sent yet, or, if the camera' in seen.complaint(1)


def test_losses_and_silence_after_the_first_images(monkeypatch):
    # Every thirtieth arrives: judged by what was published, not by what came.
    assert re.match('97 % of the images do not arrive', watch(
        np.arange(2) * 1000 * MS, 4 * MS, missing=29, lost=29).complaint(1))
    seen = watch(np.arange(3) * 33 * MS, 4 * MS)
    assert seen.complaint(1) == ''
    now = time.monotonic()
    monkeypatch.setattr('time.monotonic', lambda: now + 6.0)
    assert seen.complaint(0) == ''
    assert re.match(r'3 image\(s\) arrived, then none for 6 s', seen.complaint(1))
    assert seen.complaint(1) == ''
    # Nobody waited meanwhile.
    seen = watch(np.arange(3) * 33 * MS, 4 * MS)
    monkeypatch.setattr('time.monotonic', lambda: now + 60.0)
    seen.resume()
    assert seen.complaint(1) == ''


def test_time_without_a_publisher_is_no_silence(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr('time.monotonic', lambda: now)
    seen = watch(np.arange(10) * 2500 * MS, 4 * MS)
    now += 20.0
    assert seen.unpublished(lambda: 'nowhere') == ''
    # It has come back, and its first image is due.
    now += 7.0
    assert seen.complaint(1) == ''
    now += 1.0
    assert '10 image(s) arrived, then none for 8 s: no more were sent, or' in seen.complaint(1)


def test_the_longest_of_the_last_pauses_counts():
    bursts = np.arange(48) // 12 * 4000 + np.arange(48) % 12 * 33
    assert watch(bursts * MS, 4 * MS).longest_pause() == 33 * MS
    assert watch(bursts[:-8] * MS, 4 * MS).longest_pause() == (4000 - 11 * 33) * MS
    assert watch(np.array([0, 30, 600]) * 1000 * MS, 4 * MS).longest_pause() == 60e9
    assert watch(np.arange(1), 4 * MS).longest_pause() == TransportWatch().longest_pause() == 0.0


@pytest.mark.parametrize(('stamps', 'patience'), [([0], 10.0), ([0, 33], 5.0), ([0, 7000], 21.0)])
def test_a_slow_camera_is_waited_for(stamps, patience, monkeypatch):
    seen = watch(np.array(stamps) * MS, 4 * MS)
    now = time.monotonic()
    monkeypatch.setattr('time.monotonic', lambda: now + patience - 0.5)
    assert seen.complaint(1) == ''
    monkeypatch.setattr('time.monotonic', lambda: now + patience + 0.5)
    # A network that is at work looks for no images.
    assert seen.complaint(1, busy=patience) == ''
    assert 'arrived, then none for' in seen.complaint(1)


def test_stamps_of_a_recording_are_not_the_transports_fault():
    complaint = watch(np.arange(60) * 33 * MS, 86400 * 1000 * MS).complaint(1)
    assert re.match('images carry stamps of 86400 s before their arrival: a recording', complaint)
    assert 'fastdds' not in complaint


def test_stamps_that_are_ahead_are_told():
    assert re.match('images carry stamps of 3600 s after their arrival: the clock of the machine',
                    watch(np.arange(60) * 33 * MS, -3600 * 1000 * MS).complaint(1))
    assert watch(np.arange(60) * 33 * MS, -20 * MS).complaint(1) == ''


def test_losses_that_go_on_show_in_the_status():
    statistics = CameraStatistics()
    statistics.count('received', 80)
    statistics.count('lost', 20)
    status = camera_status('c', statistics, 1)
    assert status.level == b'\x01'
    assert status.message == '20 % of the images are lost on their way'
    statistics.count('received', 100)
    assert camera_status('c', statistics, 1).message == 'receiving'


@pytest.mark.parametrize(('stamps', 'period'), [
    ([0], 0), ([0, 4000], 4000), ([0, 5000, 9000], 5000),
    ([0, 9000, *range(9500, 13500, 500)], 500)])
def test_of_a_few_images_the_longest_time_between_them_is_their_pace(stamps, period):
    assert watch(np.array(stamps) * MS, 0).period() == period * MS


def test_a_pause_of_the_node_or_a_clock_that_was_set_is_no_pace_of_a_camera():
    seen = watch(np.array([0, 33, 66]) * MS, 0)
    seen.resume()
    assert seen.period() == 0
    assert watch(np.array([0, 33, 10 ** 9]) * MS, 0).period() == 60_000 * MS


def test_another_type_on_the_topic_is_named(start, namespace, observer):
    process = start('classifier', namespace, architecture='linear', weights='none')
    observer.wait_for_state('active')
    publisher = observer.publisher(CompressedImage, 'image', BEST_EFFORT)
    assert publisher
    process.wait_for_log('published is sensor_msgs/msg/CompressedImage, expected '
                         'sensor_msgs/msg/Image: set image_transport')
    reports = observer.listen(DiagnosticArray, '/diagnostics')
    assert observer.wait_for(lambda: any(
        status.message == 'no image yet; published is sensor_msgs/msg/CompressedImage'
        for report in reports for status in report.status))


def test_a_network_that_is_at_work_does_not_miss_its_camera():
    statistics = CameraStatistics()
    assert camera_status('c', statistics, 1, busy=18.7).message == (
        'the network has been busy for 19 s with its last frames')
    assert camera_status('c', statistics, 1).message.startswith('no image yet; 1 publisher(s)')


def test_the_node_names_a_quality_of_service_that_cannot_match(start, namespace, observer):
    process = start('classifier', namespace, architecture='linear', weights='none',
                    qos__reliability='reliable')
    observer.wait_for_state('active')
    publisher = observer.publisher(Image, 'image', BEST_EFFORT)
    assert publisher
    process.wait_for_log('set qos.reliability to best_effort')
    assert f'{namespace}/image' in process.log


def test_image_blocks_are_kept_by_the_allocator():
    """In a process of its own: after mallopt, large blocks cost no page faults again."""
    code = (
        'import resource, sys\n'
        'import numpy as np\n'
        'from cnn_perception.ros.memory import keep_image_blocks\n'
        'kept = keep_image_blocks() if sys.argv[1] == "keep" else None\n'
        'def faults():\n'
        '    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
        '    for _ in range(50):\n'
        '        [np.ones(6_000_000, np.uint8) for _ in range(5)]\n'
        '    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n'
        'faults(); print(kept, faults())\n')
    result = {}
    for mode in ('keep', 'leave'):
        run = subprocess.run([sys.executable, '-c', code, mode], capture_output=True, text=True,
                             check=True)
        kept, faults = run.stdout.split()
        result[mode] = int(faults)
        assert kept == ('True' if mode == 'keep' else 'None')
    assert result['keep'] < result['leave'] / 10


def test_the_users_own_settings_are_left_alone(monkeypatch):
    monkeypatch.setenv('MALLOC_ARENA_MAX', '2')
    assert keep_image_blocks() is False
    own = {'FASTDDS_DEFAULT_PROFILES_FILE': '/own.xml', 'CYCLONEDDS_URI': 'file:///own.xml'}
    assert image_environment(own) == own
    cyclone = profile_path('cyclonedds.xml')
    [profile] = {image_environment({})[name] for name in profile_variables({})}
    assert profile == str(profile_path(fast_dds_profile()))
    assert image_environment({})['CYCLONEDDS_URI'] == f'file://{cyclone}'
    assert ElementTree.parse(cyclone).getroot().tag.endswith('CycloneDDS')


@pytest.mark.parametrize('packages, variables', [
    (['fastrtps', 'rmw_fastrtps_cpp'], ['FASTRTPS_DEFAULT_PROFILES_FILE']),
    (['fastdds'], ['FASTDDS_DEFAULT_PROFILES_FILE']), ([], [*transport.PROFILE_VARIABLES])])
def test_the_profile_is_where_this_fast_dds_looks(packages, variables, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / 'none'))
    for package in packages:
        (tmp_path / 'share' / package).mkdir(parents=True)
    given = image_environment({'AMENT_PREFIX_PATH': os.pathsep.join(['', str(tmp_path)])})
    assert [name for name in given if name in transport.PROFILE_VARIABLES] == variables


def segment(name):
    text = profile_path(name).read_text()
    [size] = re.findall('<segment_size>([0-9]+)<', text)
    return int(size), text[text.index('-->'):].replace(size, '')


def test_the_profiles_differ_in_the_size_of_the_segment_alone():
    (large, rest), (small, other) = segment('fastdds.xml'), segment('fastdds_small.xml')
    assert rest == other
    assert large > 2 * 3840 * 2160 * 3 > 2 * 1920 * 1080 * 3 < small
    # Of the 64 MB of a container, with some left for the ports.
    assert 4 * small < 60 * 2 ** 20


@pytest.mark.parametrize('free, name', [(2 ** 30, 'fastdds.xml'), (2 ** 26, 'fastdds_small.xml'),
                                        (0, 'fastdds_small.xml')])
def test_a_profile_is_taken_that_there_is_room_for(free, name, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    given = image_environment({})
    assert given[profile_variables({})[0]] == str(profile_path(name))
    small = name == 'fastdds_small.xml'
    assert ('--shm-size=1g' in little_memory(given)) is small
    assert little_memory({'FASTRTPS_DEFAULT_PROFILES_FILE': '/own.xml'}) == ''
    assert little_memory({**given, 'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}) == ''
    assert f'config/{name} ' in watch(
        np.arange(60) * 66 * MS, 4 * MS, missing=1, lost=1).complaint(1)


def test_without_shared_memory_of_this_kind_the_profile_is_the_large_one(monkeypatch):
    monkeypatch.setattr(transport, 'SHARED_MEMORY', '/nowhere')
    assert fast_dds_profile() == 'fastdds.xml'


# A mount namespace of its own, as a container has.
CONTAINER = ['unshare', '--map-root-user', '--mount', 'sh', '-c',
             'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', 'sh']


def test_images_arrive_in_a_container(tmp_path):
    try:
        subprocess.run([*CONTAINER, 'true'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('this system lets nobody have a /dev/shm of their own')
    environment = {name: value for name, value in os.environ.items()
                   if name not in transport.PROFILE_VARIABLES}
    done = subprocess.run(
        [*CONTAINER, sys.executable, '-m', 'cnn_perception.tools.demo', '--loops', '1', '--rate',
         '4', '--out', str(tmp_path)], capture_output=True, text=True, check=False,
        env={**environment, 'PYTHONPATH': os.pathsep.join(
            [str(ROOT), environment.get('PYTHONPATH', '')])})
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'there is little room in /dev/shm' in done.stdout
    # Without the profile for it, half of them and more are lost.
    assert re.search(r'^all +6 +6 +0 ', done.stdout, re.MULTILINE), done.stdout
    assert 'Failed to create segment' not in (tmp_path / 'classifier.log').read_text()
