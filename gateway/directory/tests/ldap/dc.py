"""A domain controller of Active Directory by Samba for one test run.

`dc.py FOLDER` makes its domain with the entries of an LDIF on standard input, in one transaction. `dc.py FOLDER serve`
serves it in a network of its own, since it listens on fixed ports. Connections come over the listener that is standard
output: whoever begins with TLS is at port 636, others at 389. The end of standard input ends it all and removes the
folder."""
import os, shutil, signal, socket, subprocess, sys, threading, time

folder = sys.argv[1]


def make():
    import logging
    import ldb, samba.param
    from samba.auth import system_session
    from samba.dsdb import DS_DOMAIN_FUNCTION_2008_R2
    from samba.provision import provision
    from samba.samdb import SamDB

    lp = samba.param.LoadParm()
    lp.load_default()
    options = {
        "interfaces": "lo", "bind interfaces only": "yes", "log level": "1", "log file": f"{folder}/log.%m",
        "pid directory": folder, "ncalrpc dir": f"{folder}/ncalrpc",
        # A test makes thousands of entries, and no power fails.
        "ldb:nosync": "yes",
    }
    for option, value in options.items():
        lp.set(option, value)
    result = provision(
        logging.getLogger("provision"), system_session(), targetdir=folder, lp=lp, realm="CORP.TEST", domain="CORP",
        hostname="dc1", hostip="127.0.0.1", serverrole="active directory domain controller", dns_backend="NONE",
        adminpass="canary-Adm1n", skip_sysvolacl=True, dom_for_fun_level=DS_DOMAIN_FUNCTION_2008_R2,
    )
    lp = result.lp
    database = SamDB(url=os.path.join(folder, "private", "sam.ldb"), session_info=system_session(), lp=lp)
    database.transaction_start()
    for change, message in database.parse_ldif(sys.stdin.read()):
        if "primaryGroup" in message:
            # The number of a group is known only when it is there.
            sid = database.search(str(message["primaryGroup"]), ldb.SCOPE_BASE, attrs=["objectSid"])[0]["objectSid"][0]
            number = str(int.from_bytes(sid[-4:], "little"))
            message["primaryGroupID"] = ldb.MessageElement(number, ldb.FLAG_MOD_REPLACE, "primaryGroupID")
            message.remove("primaryGroup")
        database.modify(message) if change == ldb.CHANGETYPE_MODIFY else database.add(message)
    database.transaction_commit()


def serve():
    # The loopback of a new network is down: SIOCSIFFLAGS with IFF_UP and IFF_RUNNING.
    import fcntl, struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 0x41))
    listener = socket.socket(fileno=1)
    command = ["/usr/sbin/samba", "-i", "-s", f"{folder}/etc/smb.conf", "--option=server services = ldap"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)

    def end():
        try:
            os.killpg(server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    def relay(source, target):
        try:
            while octets := source.recv(65536):
                target.sendall(octets)
        except OSError:
            pass
        for side in (source, target):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def take(near):
        first = near.recv(1, socket.MSG_PEEK)
        if not first:
            return near.close()
        while True:
            try:
                far = socket.create_connection(("127.0.0.1", 636 if first == b"\x16" else 389))
                break
            except ConnectionRefusedError:
                if server.poll() is not None:
                    return near.close()
                time.sleep(0.05)
        threading.Thread(target=relay, args=(near, far), daemon=True).start()
        relay(far, near)

    def accept():
        while True:
            near, _ = listener.accept()
            threading.Thread(target=take, args=(near,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.buffer.read()
    end()


serve() if sys.argv[2:] == ["serve"] else make()
