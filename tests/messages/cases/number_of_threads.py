import kdsl

kdsl.set_num_threads(0)
