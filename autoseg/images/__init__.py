"""What voxels can do: files, grids, intensities, measures."""
