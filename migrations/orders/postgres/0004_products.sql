-- What the catalog said of its products: the names and prices that new orders are filled with.
--
-- Undo: drop table replica.products;

create table replica.products (
    product_id       text collate "C" primary key,
    name             text not null,
    unit_price_minor bigint not null,
    currency         text not null,
    discontinued     boolean not null
);
