from pathlib import Path

from setuptools import find_packages, setup

package_name = 'cnn_perception'


def installed(folder: str, pattern: str) -> tuple[str, list[str]]:
    """List the files of a folder for installation under share/cnn_perception."""
    return (f'share/{package_name}/{folder}',
            sorted(str(path) for path in Path(folder).glob(pattern) if path.is_file()))


setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        installed('launch', '*.launch.py'),
        installed('config', '*'),
        installed('config/architectures', '*.yaml'),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools'],
    zip_safe=True,
    maintainer='cnn_perception developers',
    maintainer_email='cnn_perception@users.noreply.github.com',
    description='Convolutional image classification on camera topics, with live pictures of '
                'what the network sees.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'classifier = cnn_perception.ros.start:classifier',
            'image_source = cnn_perception.ros.start:image_source',
            'demo = cnn_perception.tools.demo:main',
            'describe = cnn_perception.tools.describe:main',
            'visualize = cnn_perception.tools.visualize:main',
        ],
    },
)
