"""The only part of the package that knows ROS."""
