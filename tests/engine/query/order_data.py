"""Eight tables of orders, parts and suppliers after the TPC-H schema, drawn from a seed, and its 22 questions.

The values follow the benchmark's shapes (keys, ranges of dates, words of the questions), not its own
generator: answers are compared with DuckDB's over the same rows, not with published ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["QUESTIONS", "order_tables"]

_DAY_ZERO = np.datetime64("1992-01-01")
_NATIONS = [
    ("ALGERIA", 0), ("ARGENTINA", 1), ("BRAZIL", 1), ("CANADA", 1), ("EGYPT", 4), ("ETHIOPIA", 0),
    ("FRANCE", 3), ("GERMANY", 3), ("INDIA", 2), ("INDONESIA", 2), ("IRAN", 4), ("IRAQ", 4),
    ("JAPAN", 2), ("JORDAN", 4), ("KENYA", 0), ("MOROCCO", 0), ("MOZAMBIQUE", 0), ("PERU", 1),
    ("CHINA", 2), ("ROMANIA", 3), ("SAUDI ARABIA", 4), ("VIETNAM", 2), ("RUSSIA", 3),
    ("UNITED KINGDOM", 3), ("UNITED STATES", 1),
]  # fmt: skip
_REGIONS = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"]
_COLORS = ["almond", "blue", "forest", "green", "ivory", "lemon", "navy", "red"]
_TYPES = [
    f"{a} {b} {c}"
    for a in ("STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO")
    for b in ("ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED")
    for c in ("TIN", "NICKEL", "BRASS", "STEEL", "COPPER")
]
_CONTAINERS = [
    f"{a} {b}" for a in ("SM", "LG", "MED", "JUMBO", "WRAP") for b in ("CASE", "BOX", "BAG", "PKG", "PACK")
]  # fmt: skip


def order_tables(scale: float, seed: int = 7) -> dict[str, pa.Table]:
    """The tables; at scale 1 about as many rows as the benchmark has."""
    rng = np.random.default_rng(seed)
    parts, suppliers = max(int(200_000 * scale), 100), max(int(10_000 * scale), 20)
    customers, orders = max(int(150_000 * scale), 100), max(int(1_500_000 * scale), 300)

    def words(choices: list[str], count: int) -> pa.Array:
        index = pa.array(rng.integers(0, len(choices), count, dtype=np.int32))
        return pa.DictionaryArray.from_arrays(index, pa.array(choices)).cast(pa.string())

    def money(low: float, high: float, count: int) -> pa.Array:
        cents = rng.integers(int(low * 100), int(high * 100), count)
        whole = pa.array(cents).cast(pa.decimal128(19, 0))
        return pc.multiply(whole, pa.scalar(0.01).cast(pa.decimal128(3, 2))).cast(
            pa.decimal128(15, 2)
        )

    def days(offsets: Any) -> pa.Array:
        return pa.array(_DAY_ZERO + offsets.astype("timedelta64[D]"))

    def named(prefix: str, keys: Any) -> list[str]:
        return [f"{prefix}#{key:09d}" for key in keys]

    def phones(nations: Any) -> list[str]:
        return [f"{10 + nation}-{number:03d}" for number, nation in enumerate(nations)]

    lines = rng.integers(1, 8, orders)
    count = int(lines.sum())
    order_keys = np.arange(1, orders + 1) * 4
    ordered = rng.integers(0, 2400, orders)
    owner = np.repeat(np.arange(orders), lines)
    shipped = ordered[owner] + rng.integers(1, 122, count)
    due = ordered[owner] + rng.integers(30, 91, count)
    received = shipped + rng.integers(1, 31, count)
    line_part = rng.integers(1, parts + 1, count)
    supplier_of = (line_part + rng.integers(0, 4, count) * (suppliers // 4)) % suppliers + 1
    starts = np.concatenate([[0], np.cumsum(lines)[:-1]])
    part_keys = np.arange(1, parts + 1)
    nation_of_supplier = rng.integers(0, 25, suppliers)
    nation_of_customer = rng.integers(0, 25, customers)
    offers = np.repeat(part_keys, 4)
    offered_by = (offers + np.tile(np.arange(4), parts) * (suppliers // 4)) % suppliers + 1
    comments = ["", "special packages requests", "Customer Complaints", "express deposits", "quiet"]
    return {
        "region": pa.table({"r_regionkey": pa.array(range(5), pa.int32()), "r_name": _REGIONS}),
        "nation": pa.table(
            {
                "n_nationkey": pa.array(range(25), pa.int32()),
                "n_name": [name for name, _ in _NATIONS],
                "n_regionkey": pa.array([region for _, region in _NATIONS], pa.int32()),
            }
        ),
        "part": pa.table(
            {
                "p_partkey": part_keys,
                "p_name": pc.binary_join_element_wise(
                    words(_COLORS, parts), words(_COLORS, parts), " "
                ),
                "p_mfgr": words([f"Manufacturer#{i}" for i in range(1, 6)], parts),
                "p_brand": words(
                    [f"Brand#{i}{j}" for i in range(1, 6) for j in range(1, 6)], parts
                ),
                "p_type": words(_TYPES, parts),
                "p_size": pa.array(rng.integers(1, 51, parts), pa.int32()),
                "p_container": words(_CONTAINERS, parts),
            }
        ),
        "supplier": pa.table(
            {
                "s_suppkey": np.arange(1, suppliers + 1),
                "s_name": named("Supplier", range(1, suppliers + 1)),
                "s_address": named("address", range(suppliers)),
                "s_nationkey": pa.array(nation_of_supplier, pa.int32()),
                "s_phone": phones(nation_of_supplier),
                "s_acctbal": money(-999, 9999, suppliers),
                "s_comment": words(comments, suppliers),
            }
        ),
        "partsupp": pa.table(
            {
                "ps_partkey": offers,
                "ps_suppkey": offered_by,
                "ps_availqty": pa.array(rng.integers(1, 10_000, len(offers)), pa.int32()),
                "ps_supplycost": money(1, 1000, len(offers)),
            }
        ),
        "customer": pa.table(
            {
                "c_custkey": np.arange(1, customers + 1),
                "c_name": named("Customer", range(1, customers + 1)),
                "c_address": named("address", range(customers)),
                "c_nationkey": pa.array(nation_of_customer, pa.int32()),
                "c_phone": phones(nation_of_customer),
                "c_acctbal": money(-999, 9999, customers),
                "c_mktsegment": words(
                    ["AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD"], customers
                ),
                "c_comment": words(comments, customers),
            }
        ),
        "orders": pa.table(
            {
                "o_orderkey": order_keys,
                # A third of the customers never order.
                "o_custkey": rng.integers(1, customers // 3, orders) * 3 - 1,
                "o_orderstatus": words(["F", "O", "P"], orders),
                "o_totalprice": money(1000, 400_000, orders),
                "o_orderdate": days(ordered),
                "o_orderpriority": words(
                    ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"], orders
                ),
                "o_shippriority": pa.array(np.zeros(orders), pa.int32()),
                "o_comment": words(comments, orders),
            }
        ),
        "lineitem": pa.table(
            {
                "l_orderkey": order_keys[owner],
                "l_partkey": line_part,
                "l_suppkey": supplier_of,
                "l_linenumber": pa.array(np.arange(count) - starts[owner] + 1, pa.int32()),
                "l_quantity": money(1, 51, count),
                "l_extendedprice": money(900, 100_000, count),
                "l_discount": money(0, 0.11, count),
                "l_tax": money(0, 0.09, count),
                "l_returnflag": words(["R", "A", "N"], count),
                "l_linestatus": words(["O", "F"], count),
                "l_shipdate": days(shipped),
                "l_commitdate": days(due),
                "l_receiptdate": days(received),
                "l_shipinstruct": words(
                    ["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"], count
                ),
                "l_shipmode": words(
                    ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"], count
                ),
            }
        ),
    }


_REVENUE = "l_extendedprice * (1 - l_discount)"

# Each holds in both dialects.
QUESTIONS: list[str] = [
    f"""select l_returnflag, l_linestatus, sum(l_quantity) q, sum(l_extendedprice) p, sum({_REVENUE}) d,
        sum({_REVENUE} * (1 + l_tax)) c, count(*) n from lineitem
        where l_shipdate <= date '1998-09-02' group by l_returnflag, l_linestatus order by 1, 2""",
    """select s_acctbal, s_name, n_name, p_partkey, p_mfgr from part, supplier, partsupp, nation, region
        where p_partkey = ps_partkey and s_suppkey = ps_suppkey and p_size < 15 and p_type like '%BRASS'
        and s_nationkey = n_nationkey and n_regionkey = r_regionkey and r_name = 'EUROPE'
        and ps_supplycost = (select min(ps_supplycost) from partsupp, supplier, nation, region
          where p_partkey = ps_partkey and s_suppkey = ps_suppkey and s_nationkey = n_nationkey
          and n_regionkey = r_regionkey and r_name = 'EUROPE')
        order by s_acctbal desc, n_name, s_name, p_partkey limit 100""",
    f"""select l_orderkey, sum({_REVENUE}) revenue, o_orderdate, o_shippriority
        from customer, orders, lineitem where c_mktsegment = 'BUILDING' and c_custkey = o_custkey
        and l_orderkey = o_orderkey and o_orderdate < date '1995-03-15' and l_shipdate > date '1995-03-15'
        group by l_orderkey, o_orderdate, o_shippriority order by revenue desc, o_orderdate, 1 limit 10""",
    """select o_orderpriority, count(*) c from orders where o_orderdate >= date '1993-07-01'
        and o_orderdate < date '1993-10-01' and exists (select * from lineitem
        where l_orderkey = o_orderkey and l_commitdate < l_receiptdate)
        group by o_orderpriority order by o_orderpriority""",
    f"""select n_name, sum({_REVENUE}) revenue from customer, orders, lineitem, supplier, nation, region
        where c_custkey = o_custkey and l_orderkey = o_orderkey and l_suppkey = s_suppkey
        and c_nationkey = s_nationkey and s_nationkey = n_nationkey and n_regionkey = r_regionkey
        and r_name = 'ASIA' and o_orderdate >= date '1994-01-01' and o_orderdate < date '1996-01-01'
        group by n_name order by revenue desc""",
    """select sum(l_extendedprice * l_discount) revenue from lineitem where l_shipdate >= date '1994-01-01'
        and l_shipdate < date '1995-01-01' and l_discount between 0.05 and 0.07 and l_quantity < 24""",
    f"""select supp_nation, cust_nation, l_year, sum(volume) revenue from (
        select n1.n_name supp_nation, n2.n_name cust_nation, year(l_shipdate) l_year, {_REVENUE} volume
        from supplier, lineitem, orders, customer, nation n1, nation n2
        where s_suppkey = l_suppkey and o_orderkey = l_orderkey and c_custkey = o_custkey
        and s_nationkey = n1.n_nationkey and c_nationkey = n2.n_nationkey
        and ((n1.n_name = 'FRANCE' and n2.n_name = 'GERMANY') or (n1.n_name = 'GERMANY' and n2.n_name = 'FRANCE'))
        and l_shipdate between date '1995-01-01' and date '1996-12-31') shipping
        group by supp_nation, cust_nation, l_year order by 1, 2, 3""",
    f"""select o_year, sum(case when nation = 'BRAZIL' then volume else 0 end) share, sum(volume) whole from (
        select year(o_orderdate) o_year, {_REVENUE} volume, n2.n_name nation
        from part, supplier, lineitem, orders, customer, nation n1, nation n2, region
        where p_partkey = l_partkey and s_suppkey = l_suppkey and l_orderkey = o_orderkey
        and o_custkey = c_custkey and c_nationkey = n1.n_nationkey and n1.n_regionkey = r_regionkey
        and r_name = 'AMERICA' and s_nationkey = n2.n_nationkey
        and o_orderdate between date '1995-01-01' and date '1996-12-31' and p_type like 'ECONOMY%') all_nations
        group by o_year order by o_year""",
    f"""select nation, o_year, sum(amount) profit from (
        select n_name nation, year(o_orderdate) o_year, {_REVENUE} - ps_supplycost * l_quantity amount
        from part, supplier, lineitem, partsupp, orders, nation
        where s_suppkey = l_suppkey and ps_suppkey = l_suppkey and ps_partkey = l_partkey
        and p_partkey = l_partkey and o_orderkey = l_orderkey and s_nationkey = n_nationkey
        and p_name like '%green%') profit group by nation, o_year order by nation, o_year desc""",
    f"""select c_custkey, c_name, sum({_REVENUE}) revenue, c_acctbal, n_name, c_address, c_phone
        from customer, orders, lineitem, nation where c_custkey = o_custkey and l_orderkey = o_orderkey
        and o_orderdate >= date '1993-10-01' and o_orderdate < date '1994-01-01' and l_returnflag = 'R'
        and c_nationkey = n_nationkey group by c_custkey, c_name, c_acctbal, c_phone, n_name, c_address
        order by revenue desc, c_custkey limit 20""",
    """select ps_partkey, sum(ps_supplycost * ps_availqty) v from partsupp, supplier, nation
        where ps_suppkey = s_suppkey and s_nationkey = n_nationkey and n_name in ('GERMANY', 'FRANCE')
        group by ps_partkey having sum(ps_supplycost * ps_availqty) > (
          select sum(ps_supplycost * ps_availqty) * 0.001 from partsupp, supplier, nation
          where ps_suppkey = s_suppkey and s_nationkey = n_nationkey and n_name in ('GERMANY', 'FRANCE'))
        order by v desc, ps_partkey""",
    """select l_shipmode, sum(case when o_orderpriority in ('1-URGENT', '2-HIGH') then 1 else 0 end) high,
        sum(case when o_orderpriority <> '1-URGENT' and o_orderpriority <> '2-HIGH' then 1 else 0 end) low
        from orders, lineitem where o_orderkey = l_orderkey and l_shipmode in ('MAIL', 'SHIP')
        and l_commitdate < l_receiptdate and l_shipdate < l_commitdate
        and l_receiptdate >= date '1994-01-01' and l_receiptdate < date '1995-01-01'
        group by l_shipmode order by l_shipmode""",
    """select c_count, count(*) custdist from (select c_custkey, count(o_orderkey) c_count from customer
        left outer join orders on c_custkey = o_custkey and o_comment not like '%special%requests%'
        group by c_custkey) c_orders group by c_count order by custdist desc, c_count desc""",
    f"""select sum(case when p_type like 'PROMO%' then {_REVENUE} else 0 end) promo, sum({_REVENUE}) whole
        from lineitem, part where l_partkey = p_partkey and l_shipdate >= date '1995-09-01'
        and l_shipdate < date '1995-10-01'""",
    f"""with revenue as (select l_suppkey supplier_no, sum({_REVENUE}) total from lineitem
        where l_shipdate >= date '1996-01-01' and l_shipdate < date '1996-04-01' group by l_suppkey)
        select s_suppkey, s_name, s_address, s_phone, total from supplier, revenue
        where s_suppkey = supplier_no and total = (select max(total) from revenue) order by s_suppkey""",
    """select p_brand, p_type, p_size, count(distinct ps_suppkey) c from partsupp, part
        where p_partkey = ps_partkey and p_brand <> 'Brand#45' and p_type not like 'MEDIUM POLISHED%'
        and p_size in (49, 14, 23, 45, 19, 3, 36, 9) and ps_suppkey not in (
          select s_suppkey from supplier where s_comment like '%Customer%Complaints%')
        group by p_brand, p_type, p_size order by c desc, p_brand, p_type, p_size""",
    """select sum(l_extendedprice) total from lineitem, part where p_partkey = l_partkey
        and p_brand in ('Brand#23', 'Brand#11') and p_container like 'MED%'
        and l_quantity < (select 0.4 * avg(l_quantity) from lineitem where l_partkey = p_partkey)""",
    """select c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity) q
        from customer, orders, lineitem where o_orderkey in (
          select l_orderkey from lineitem group by l_orderkey having sum(l_quantity) > 250)
        and c_custkey = o_custkey and o_orderkey = l_orderkey
        group by c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice
        order by o_totalprice desc, o_orderdate, o_orderkey limit 100""",
    f"""select sum({_REVENUE}) revenue from lineitem, part where
        (p_partkey = l_partkey and p_brand = 'Brand#12' and p_container in ('SM CASE', 'SM BOX', 'SM PACK', 'SM PKG')
          and l_quantity >= 1 and l_quantity <= 31 and p_size between 1 and 25 and l_shipmode in ('AIR', 'REG AIR'))
        or (p_partkey = l_partkey and p_brand like 'Brand#2%' and p_container in ('MED BAG', 'MED BOX', 'MED PKG')
          and l_quantity >= 10 and l_quantity <= 40 and p_size between 1 and 30
          and l_shipinstruct = 'DELIVER IN PERSON')""",
    """select s_name, s_address from supplier, nation where s_suppkey in (
          select ps_suppkey from partsupp where ps_partkey in (
            select p_partkey from part where p_name like 'forest%')
          and ps_availqty > (select 0.5 * sum(l_quantity) from lineitem where l_partkey = ps_partkey
            and l_suppkey = ps_suppkey and l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01'))
        and s_nationkey = n_nationkey and n_name in ('CANADA', 'KENYA', 'FRANCE') order by s_name""",
    """select s_name, count(*) numwait from supplier, lineitem l1, orders, nation
        where s_suppkey = l1.l_suppkey and o_orderkey = l1.l_orderkey and o_orderstatus = 'F'
        and l1.l_receiptdate > l1.l_commitdate and exists (select * from lineitem l2
          where l2.l_orderkey = l1.l_orderkey and l2.l_suppkey <> l1.l_suppkey)
        and not exists (select * from lineitem l3 where l3.l_orderkey = l1.l_orderkey
          and l3.l_suppkey <> l1.l_suppkey and l3.l_receiptdate > l3.l_commitdate)
        and s_nationkey = n_nationkey and n_name in ('SAUDI ARABIA', 'FRANCE', 'CHINA')
        group by s_name order by numwait desc, s_name limit 100""",
    """select cntrycode, count(*) numcust, sum(c_acctbal) total from (
        select substr(c_phone, 1, 2) cntrycode, c_acctbal from customer
        where substr(c_phone, 1, 2) in ('13', '31', '23', '29', '30', '18', '17')
        and c_acctbal > (select avg(c_acctbal) from customer where c_acctbal > 0.00
          and substr(c_phone, 1, 2) in ('13', '31', '23', '29', '30', '18', '17'))
        and not exists (select * from orders where o_custkey = c_custkey)) custsale
        group by cntrycode order by cntrycode""",
]
