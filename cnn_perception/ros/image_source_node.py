"""A camera for machines without one: photographs, a folder, a video or a device as `image`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from cnn_perception.ros import parameters, spinning
from cnn_perception.ros.clock_watch import ClockWatch
from cnn_perception.ros.image_messages import from_rgb, to_compressed
from cnn_perception.ros.log import forward_log
from cnn_perception.sources import open_source, Picture, PictureSource
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

__all__ = ['ImageSourceNode', 'main']

# Seconds that the last frame is given to arrive before the process ends.
LINGER = 1.0
# Between two looks whether somebody subscribes, where frames have no rate.
IDLE_PERIOD = 0.02


class ImageSourceNode(Node):
    """
    Publishes pictures at a set rate on `image` and, as JPEG, on `image/compressed`.

    Nothing is drawn from the source before somebody subscribes to either. `~/published` carries
    the header of every frame that was sent, so that a listener can count losses without
    receiving pictures.
    """

    def __init__(self, **options: Any) -> None:
        """Open the source; ValueError where there is none."""
        super().__init__('image_source', **options)
        forward_log(self)
        parameters.declare(self, parameters.IMAGE_SOURCE)
        parameters.warn_of_unknown(self)
        self._settings = parameters.values(self, parameters.IMAGE_SOURCE)
        reason = parameters.refusal(parameters.IMAGE_SOURCE, [
            self.get_parameter(row.name) for row in parameters.IMAGE_SOURCE])
        if reason:
            raise ValueError(reason)
        self._source = open_source(str(self._settings['source']), self._settings['width'],
                                   self._settings['height'])
        reliable = self._settings['reliability'] == 'reliable'
        qos = QoSProfile(depth=1 if self._source.live else 5, reliability=(
            ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT))
        self._images = self.create_publisher(Image, 'image', qos)
        self._compressed = self.create_publisher(CompressedImage, 'image/compressed', qos)
        # Kept for listeners that are discovered after the first frames have left.
        self._published = self.create_publisher(Header, '~/published', QoSProfile(
            depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        self._started = False
        self._frames: Generator[Picture, None, None] | None = None
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._timer = self._start_timer()
        # The clock on the wall goes on where that of a simulation stands.
        self._clock_timer = self.create_timer(
            1.0, ClockWatch(self, 'nothing is published').stands,
            clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f'publishing {self._source.description} on '
                               f'{self._images.topic_name}')

    def _start_timer(self):
        return self.create_timer(self._period(), self._publish_next)

    def _period(self, shortest: float = 0.0) -> float:
        rate = self._settings['rate']
        return max(1.0 / rate if rate > 0 else 0.0, shortest)

    def _publish_next(self) -> None:
        raw, compressed = (publisher.get_subscription_count()
                           for publisher in (self._images, self._compressed))
        wanted = 1 if self._started else max(1, self._settings['wait_for_subscribers'])
        if raw + compressed < wanted:
            self._pause()
            self._keep_to(self._period(IDLE_PERIOD))
            return
        self._started = True
        self._keep_to(self._period())
        picture = self._next_picture()
        if picture is None:
            return
        header = Header(stamp=self.get_clock().now().to_msg(),
                        frame_id=(
            picture.name if self._settings['frame_id_is_name'] else self._settings['frame_id']))
        if raw > 0:
            self._images.publish(from_rgb(picture.rgb, header))
        if compressed > 0:
            self._compressed.publish(
                to_compressed(picture.rgb, header, self._settings['jpeg_quality']))
        self._published.publish(header)

    def _keep_to(self, period: float) -> None:
        if self._timer.timer_period_ns != (nanoseconds := int(1e9 * period)):
            self._timer.timer_period_ns = nanoseconds

    def _pause(self) -> None:
        """Wait for a subscriber; a camera is given back, since its buffered frames grow stale."""
        if self._source.live and self._frames is not None:
            self._frames.close()
            self._frames = None
            self._source.close()

    def _next_picture(self) -> Picture | None:
        """Return the next picture; None after the last one, or while the source fails."""
        if self._frames is None:
            self._frames = play(self._source, self._settings['loops'])
        try:
            return next(self._frames)
        except StopIteration:
            self._finish()
        except ValueError as error:
            self._frames = None
            self.get_logger().error(f'the source failed, trying again: {error}',
                                    throttle_duration_sec=5.0)
        return None

    def _finish(self) -> None:
        self._timer.cancel()
        self.get_logger().info(f'all {self._settings["loops"]} loop(s) played')
        if self._settings['exit_when_done']:
            self.create_timer(LINGER, self.context.try_shutdown)

    def _on_set_parameters(self, changes: list) -> SetParametersResult:
        reason = parameters.refusal(parameters.IMAGE_SOURCE, changes)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        self._settings = {**self._settings, **{change.name: change.value for change in changes
                                               if change.name in self._settings}}
        if any(change.name == 'rate' for change in changes) and not self._timer.is_canceled():
            self.destroy_timer(self._timer)
            self._timer = self._start_timer()
        return SetParametersResult(successful=True)

    def stop(self) -> None:
        """Release the source."""
        self._source.close()


def play(source: PictureSource, loops: int) -> Generator[Picture, None, None]:
    """Yield the pictures of so many passes; 0 for ever. ValueError where a pass has none."""
    passes = 0
    while loops == 0 or passes < loops:
        count = 0
        for picture in source.pictures():
            count += 1
            yield picture
        if count == 0:
            raise ValueError(f'{source.description} delivered no frame')
        passes += 1


def main(arguments: list[str] | None = None) -> int:
    """Run the node; returns the process exit status."""
    return spinning.run(ImageSourceNode, arguments)
