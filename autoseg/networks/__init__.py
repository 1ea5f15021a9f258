"""What tensors can do: networks, losses, augmentation, one training step, whole-image inference."""
