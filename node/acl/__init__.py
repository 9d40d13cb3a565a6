"""Users and what they may do: access control lists.

    selector    a set of permissions: commands, keys, channels, databases
    user        a name, its passwords, and one selector or several
    acl         all users of a node, and what it costs a client to be one of them
    file        users as lines of text, in an ACL file and in a configuration file
    denials     the log of what was refused

https://valkey.io/topics/acl
"""
