"""Packages of autoseg; `plans/` lies beside the package in a checkout and inside it in a wheel."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["autoseg", "autoseg.*"]), "autoseg.plans"],
    package_dir={"autoseg.plans": "plans"},
    package_data={
        "autoseg.plans": ["**/*"],
        "autoseg.images.dicom": ["*.csv"],
        "autoseg.stages.reporting": ["*.j2"],
        "autoseg": ["py.typed"],
    },
)
