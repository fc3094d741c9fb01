import kdsl

kernel = kdsl.kernel(lambda x: x)
