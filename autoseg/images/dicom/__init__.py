"""DICOM in and out: series with a geometry gate of our own, contours (RTSTRUCT) and segments (SEG) both ways.

Headers are read by pydicom with a list of tags that leaves out every name of a person; voxels by SimpleITK (GDCM),
which also decodes lossless JPEG, the commonest compression of CT. A series is read in patient coordinates: nothing
here believes file names, instance numbers or slice thickness.
"""
