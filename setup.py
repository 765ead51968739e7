"""Installs tf_lottery."""

import pathlib

import setuptools

setuptools.setup(
  name="tf-lottery",
  version="0.1.0",
  description="Find, prove and ship winning lottery tickets in Keras models.",
  long_description=pathlib.Path(__file__)
  .with_name("README.md")
  .read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  author="The tf_lottery authors",
  license="Apache-2.0",
  packages=setuptools.find_packages(include=["tf_lottery", "tf_lottery.*"]),
  package_data={"tf_lottery.report": ["report.html.jinja"]},
  python_requires=">=3.11",
  install_requires=[
    "absl-py",
    # Earlier versions may hold the lock of a file that was deleted.
    "filelock>=3.24",
    "flatbuffers",
    # tensorflow_datasets imports it and does not declare it.
    "importlib_resources",
    "jinja2",
    "keras>=3.10",
    "matplotlib",
    "ml-collections",
    "msgspec>=0.19",
    "numpy",
    "safetensors",
    "scikit-learn",
    "scipy",
    # tensorflow_model_optimization imports distutils, which Python 3.12 lacks.
    "setuptools",
    "tensorflow>=2.19",
    "tensorflow-datasets",
    "tensorflow-model-optimization>=0.8",
    "tf-keras>=2.19",
    "tqdm",
  ],
  extras_require={
    "gpu": ["tensorflow[and-cuda]"],
    "litert": ["ai-edge-litert"],
    "ray": ["ray"],
    "test": [
      "ai-edge-litert",
      "hypothesis",
      "mlxtend",
      "pytest",
      "pytest-xdist",
      "tensorboard",
    ],
    "dev": [
      "ai-edge-litert",
      "hypothesis",
      "mlxtend",
      "pre-commit",
      "pytest",
      "pytest-xdist",
      "ray",
      "ruff",
      "tensorboard",
    ],
  },
)
