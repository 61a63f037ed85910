"""FR3 arm, Allegro hand and head camera: description, controllers, launch files and the FCI node."""
