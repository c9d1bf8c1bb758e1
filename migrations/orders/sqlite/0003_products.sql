-- What the catalog said of its products: the names and prices that new orders are filled with.
-- undo: drop table products;
create table products (
    product_id text not null primary key,
    name text not null,
    unit_price_minor integer not null,
    currency text not null,
    -- 0 or 1
    discontinued integer not null
) strict, without rowid;
