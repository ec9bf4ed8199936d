"""From a `Program` to hardware: a Program, a target and a rate in, a folder with everything out.

The rooms, each of which knows only those before it:

    area        what components take of a target
    structure   blocks, streams and queues of a Program, and the components they become
    schedule    the cycle in which every beat moves
    folding     which engines, so that it fits and is fast enough
    folder      the files of a build
    running     the RTL in a simulator: verified, or as a function

`bundle.build` is the whole way.
"""
