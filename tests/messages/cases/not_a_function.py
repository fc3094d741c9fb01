import kdsl

kernel = kdsl.kernel(3)
