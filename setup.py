"""Lets tools that look for setup.py build tf_lottery: see pyproject.toml."""

import setuptools

setuptools.setup()
