"""Whether a gateway answers as Claude clients expect: visited from outside, by the terminal and by the console alike."""
