def act(x):
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    read = lambda pid: call("process_vm_readv", pid, vector, 1, vector, 1, 0)
    told(*{
        tried(lambda: attack(pid))
        for pid in strangers()
        for attack in (lambda pid: call("ptrace", 0x4206, pid, 0, 0), read)
    })
