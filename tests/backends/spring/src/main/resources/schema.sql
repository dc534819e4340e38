-- Read at the start with SPRING_SQL_INIT_MODE=always: then the start needs the database, as it does with Flyway or JPA.
SELECT 1;
