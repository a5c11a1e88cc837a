"""Other verifiers beside ours: how each is installed, asked and checked. One file a peer; nothing of theirs is imported.

    python -m benchmarks.peers.install --into DIR [--peer NAME]

puts each peer into a virtual environment of its own, `DIR/NAME`. A query is an ONNX file and a VNN-LIB 1.0 file. Every call
is a process of its own, ended with its whole process group when it overruns; a `sat` is replayed in onnxruntime.
"""
