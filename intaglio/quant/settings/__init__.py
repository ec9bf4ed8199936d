"""What a user can ask of quantisation: numbers in, checked and frozen values out."""
