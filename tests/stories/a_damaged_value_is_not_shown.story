# A stored value that was changed, or moved from another column's key, is an error and never data.
-- policy --
public.people  scope = "platform"  email: text  name: text
-- setup directly: create table people (id int, email text, name text) --
-- as app: insert into people values (1, 'ada@example.com', 'Ada'), (2, 'bob@example.com', 'Bob'), (3, 'eve@example.com', 'Eve') --
INSERT 0 3
-- directly: update people set email = set_byte(email, 40, get_byte(email, 40) # 1) where id = 1 --
UPDATE 1
-- directly: update people set email = set_byte(email, 15, get_byte(email, 15) # 64) where id = 2 --
UPDATE 1
-- as app: select email from people where id = 1 --
ERROR:  PV003: a stored value is damaged or was tampered with
DETAIL:  Its authentication tag does not match.
HINT:  The value is not shown. Compare the table with a backup. See docs/errors.md#damaged-value.
-- as app: select email from people where id = 2 --
ERROR:  PV003: a key for protected values cannot be used
DETAIL:  the keystore has no data key 65
HINT:  Nothing was written or shown; the value comes from another deployment, or the keystore from an older backup: restore it. See docs/errors.md#damaged-value.
-- as app: select email from people where id = 3 --
eve@example.com
-- as app: select name from people order by id --
Ada
Bob
Eve
-- directly: update people set email = name where id = 3 --
UPDATE 1
-- as app: select email from people where id = 3 --
Eve
