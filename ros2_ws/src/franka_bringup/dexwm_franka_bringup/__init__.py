"""FR3, Allegro hand and head camera: description, cell and FCI node."""
