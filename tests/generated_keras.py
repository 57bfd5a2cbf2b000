from generated_torch import Drawn  # placeholder until the Keras grammar stands
NAME="keras"
