"""Made by make gen: message classes and ABIs that the program needs at run time."""
