"""The 2017 study of TensorRT on Tesla P40 beside measured rows."""
