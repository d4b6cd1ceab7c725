"""Convolutional image classification for ROS 2, with pictures of what the network sees."""
