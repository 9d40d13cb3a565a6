"""Random sequences of the commands on lists, hashes, sets and sorted sets, beside a real server.

Few keys and few words, so that commands meet: wrong types, missing keys, the last element.
"""

import random

import pytest
from differential import Pair

WORDS = {
    "k": ("l", "l2", "h", "t", "t2", "z", "z2", "s", "none"),
    "l": ("l", "l2", "l", "l2", "l", "l2", "s", "none"),
    "h": ("h", "h2", "h", "h2", "h", "z", "none"),
    "t": ("t", "t2", "t", "t2", "t", "l", "none"),
    "z": ("z", "z2", "z", "z2", "z", "z2", "t", "none"),
    "v": ("a", "b", "c", "10", "-5", "", "x" * 70, "3.0", "007", b"\r\n\xff"),
    "i": ("0", "1", "-1", "2", "-2", "3", "7", "-9", "100", str(2**63 - 1), str(-(2**63)), "x"),
    "f": ("1", "0.1", "-0.5", "3.0e3", "1e-7", "-0", "inf", "-inf", "nan", "1e308", "x", " 1"),
    "b": ("-inf", "+inf", "0", "1", "(1", "(2", "5", "x"),
    "e": ("LEFT", "RIGHT", "left", "UP"),
}
LISTS = """
    LPUSH $l $v $v|RPUSH $l $v $v $v|LPUSHX $l $v|RPUSHX $l $v|LPOP $l|RPOP $l $i|LRANGE $l $i $i
    LRANGE $l 0 -1|LINDEX $l $i|LSET $l $i $v|LINSERT $l BEFORE $v $v|LREM $l $i $v|LTRIM $l $i $i
    LPOS $l $v RANK $i|LPOS $l $v COUNT $i MAXLEN $i|LMOVE $l $l $e $e|RPOPLPUSH $l $l|DEL $l
    LMPOP 2 $l $l $e COUNT $i
    OBJECT ENCODING $l|SET $l $v|RENAME $k $l|LLEN $k
    """
HASHES = """
    HSET $h $v $v $v $v|HSETNX $h $v $v|HGET $h $v|HMGET $h $v $v|HDEL $h $v $v|HLEN $h|DEL $h
    HEXISTS $h $v|HSTRLEN $h $v|HINCRBY $h $v $i|HINCRBYFLOAT $h $v $f|HSETEX $h FNX FIELDS 1 $v $v
    HPEXPIREAT $h 33177117420000 NX FIELDS 2 $v $v|HPEXPIRETIME $h FIELDS 2 $v $v|HSET $h $v
    HPERSIST $h FIELDS 1 $v|HGETEX $h PXAT 33177117420007 FIELDS 1 $v|HGETDEL $h FIELDS 2 $v $v
    HEXPIREAT $h 1 LT FIELDS 1 $v|OBJECT ENCODING $h|COPY $h $h REPLACE|EXISTS $h
    """
SETS = """
    SADD $t $v $v $v|SADD $t $i $i|SREM $t $v $v|SISMEMBER $t $v|SMISMEMBER $t $v $v|SCARD $t
    SMOVE $t $t $v|SINTERSTORE $t $t $t|SUNIONSTORE $t $t $t|SDIFFSTORE $t $t $t|DEL $t
    SINTERCARD 2 $t $t LIMIT $i|OBJECT ENCODING $t|SCARD $k|ZUNION 2 $t $z WITHSCORES
    """
SORTED_SETS = """
    ZADD $z $f $v $f $v|ZADD $z NX CH $f $v|ZADD $z GT INCR $f $v|ZADD $z XX LT $f $v|ZREM $z $v $v
    ZINCRBY $z $f $v|ZSCORE $z $v|ZMSCORE $z $v $v|ZRANK $z $v WITHSCORE|ZREVRANK $z $v|ZCARD $k
    ZRANGE $z $i $i WITHSCORES|ZRANGE $z $b $b BYSCORE LIMIT $i $i|ZREVRANGE $z $i $i
    ZCOUNT $z $b $b
    ZRANGEBYSCORE $z $b $b WITHSCORES|ZRANGESTORE $z $z $i $i REV|ZREMRANGEBYRANK $z $i $i
    ZREMRANGEBYSCORE $z $b $b|ZPOPMIN $z|ZPOPMAX $z $i|ZMPOP 2 $z $z MIN COUNT $i|DEL $z
    ZUNIONSTORE $z 2 $z $z WEIGHTS $f 2|ZINTERSTORE $z 2 $z $t AGGREGATE MAX|ZDIFFSTORE $z 2 $z $z
    ZINTER 2 $z $z WITHSCORES|ZDIFF 2 $z $z WITHSCORES|ZINTERCARD 2 $z $z|OBJECT ENCODING $z
    ZRANGE $k 0 -1 WITHSCORES|ZSCAN $z 0 MATCH a*
    """


@pytest.mark.parametrize("templates", [LISTS, HASHES, SETS, SORTED_SETS])
def test_random_commands(pair: Pair, templates: str) -> None:
    chosen = random.Random(len(templates))
    commands = [line.split() for line in templates.strip().replace("\n", "|").split("|")]
    for _ in range(2500):
        command = [
            chosen.choice(WORDS[word[1]]) if word[0] == "$" else word
            for word in chosen.choice(commands)
        ]
        if chosen.random() < 0.02:
            command.pop()
        pair.same(*command)
